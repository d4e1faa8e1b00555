package embedded

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
)

// Container is a container for a Runtime.
type Container struct {
	// Job is the name of the container's Job.
	Job         string
	Name, Image string
	// Command is the command, empty for the image's own, with Arguments.
	Command, Arguments []string
	Environment        map[string]string
	WorkingDir         string
	// Directory is the pod's volume, which the container expects at MountPath.
	Directory, MountPath string
	// Projected are the directories of projected volumes by mount path.
	Projected map[string]string
	// TerminationLog is the file for /dev/termination-log.
	TerminationLog string
	// Terminate writes the termination log if there are no files.
	Terminate func(message string)
	Output    io.Writer
}

// Runtime runs containers.
type Runtime interface {
	// Run runs a container until it or the context ends. It returns the exit code, or an error if the container
	// cannot start.
	Run(ctx context.Context, container Container) (exitCode int, err error)
}

// Processes is a Runtime that runs containers as processes of this machine. A private directory replaces the
// mount path wherever the path occurs in the command and the environment, but not inside files.
type Processes struct {
	// Programs replace images' containers by functions in this process, by image name without tag, such as
	// docker.io/library/busybox.
	Programs map[string]Program
}

// Program replaces an image's container.
type Program func(ctx context.Context, container Container) (exitCode int)

// errNoCommand means that only the image knows the command.
var errNoCommand = errors.New("its command is known to its image only; name it as cmd in job/config.yaml")

// killDelay is the time from SIGTERM to SIGKILL.
const killDelay = 5 * time.Second

// Run runs the program of its image, if any, or else its command.
func (p *Processes) Run(ctx context.Context, container Container) (int, error) {
	container = p.moved(container)
	for _, name := range []string{container.Image, nameOf(container.Image)} {
		if program, ok := p.Programs[name]; ok {
			return program(ctx, container), nil
		}
	}
	if len(container.Command) == 0 {
		return 0, errNoCommand
	}
	command := exec.CommandContext(ctx, container.Command[0], slices.Concat(container.Command[1:], container.Arguments)...) //nolint:gosec // the user's own command
	command.Stdout, command.Stderr = container.Output, container.Output
	command.Dir = container.Directory
	if container.WorkingDir != "" {
		command.Dir = container.WorkingDir
	}
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + container.Directory, "TMPDIR=" + os.TempDir()}
	for name, value := range container.Environment {
		command.Env = append(command.Env, name+"="+value)
	}
	// The whole process group ends, like a container.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGTERM) }
	command.WaitDelay = killDelay
	err := command.Run()
	if command.Process != nil {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // remaining processes of the group
	}
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay), command.ProcessState != nil && command.ProcessState.Success():
		return 0, nil
	case errors.As(err, &exit):
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			const signalled = 128 // as in a shell
			return signalled + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	default:
		return 0, err
	}
}

// moved replaces the mount path with its directory.
func (p *Processes) moved(container Container) Container {
	places := maps.Clone(container.Projected)
	if places == nil {
		places = map[string]string{}
	}
	if container.MountPath != "" {
		places[container.MountPath] = container.Directory
	}
	move := func(text string) string {
		text = strings.ReplaceAll(text, corev1.TerminationMessagePathDefault, container.TerminationLog)
		for path, directory := range places {
			// Replace the path itself, but not the prefix of another name.
			place := regexp.MustCompile(regexp.QuoteMeta(path) + `([^\w.-]|$)`)
			text = place.ReplaceAllString(text, strings.ReplaceAll(directory, "$", "$$")+"${1}")
		}
		return text
	}
	moveAll := func(words []string) (moved []string) {
		for _, word := range words {
			moved = append(moved, move(word))
		}
		return moved
	}
	container.Command, container.Arguments = moveAll(container.Command), moveAll(container.Arguments)
	environment := map[string]string{}
	for name, value := range container.Environment {
		environment[name] = move(value)
	}
	container.Environment, container.WorkingDir = environment, move(container.WorkingDir)
	return container
}

// nameOf returns an image's full name without its tag: locustio/locust:2 is docker.io/locustio/locust.
func nameOf(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	return named.Name()
}

// containerLog is a container's log up to a limit.
type containerLog struct {
	mutex   sync.Mutex
	content []byte
}

// maxLog bounds a log. The kubelet rotates logs at 10 MiB.
const maxLog = 10 << 20

// Write never fails.
func (c *containerLog) Write(content []byte) (int, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.content = append(c.content, content...)
	if surplus := len(c.content) - maxLog; surplus > 0 {
		c.content = c.content[surplus:]
	}
	return len(content), nil
}

func (c *containerLog) read() []byte {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return append([]byte{}, c.content...)
}

// expand replaces $(NAME) with the variable's value like the kubelet in commands, arguments and values. $$ is
// $, and unknown names remain.
func expand(text string, environment map[string]string) string {
	var expanded strings.Builder
	for index := 0; index < len(text); index++ {
		rest := text[index:]
		switch {
		case strings.HasPrefix(rest, "$$"):
			expanded.WriteByte('$')
			index++
		case strings.HasPrefix(rest, "$("):
			name, _, closed := strings.Cut(rest[2:], ")")
			value, known := environment[name]
			if !closed || !known {
				expanded.WriteByte('$')
				continue
			}
			expanded.WriteString(value)
			index += len(name) + len("$()") - 1
		default:
			expanded.WriteByte(text[index])
		}
	}
	return expanded.String()
}
