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

// Container is what a Runtime is asked to run.
type Container struct {
	// Job is the name of the container's Job.
	Job         string
	Name, Image string
	// Command is what to run, empty for the image's own, with Arguments.
	Command, Arguments []string
	Environment        map[string]string
	WorkingDir         string
	// Directory is where the pod's volume is, which the container expects at
	// MountPath.
	Directory, MountPath string
	// Projected are the directories with what Kubernetes projects into the pod, by where the
	// container expects them.
	Projected map[string]string
	// TerminationLog is the file that the container expects as /dev/termination-log.
	TerminationLog string
	// Terminate writes the termination log where there are no files.
	Terminate func(message string)
	Output    io.Writer
}

// Runtime runs containers.
type Runtime interface {
	// Run runs a container until it ends, or until the context does, and then ends
	// it. It returns its exit code, or an error if it could not be started.
	Run(ctx context.Context, container Container) (exitCode int, err error)
}

// Processes is a Runtime that runs containers as processes of this machine. What
// a container expects at its mount path it finds in a private directory: the path
// is replaced wherever it stands in the command and the environment. Files with
// the path inside are left as they are.
type Processes struct {
	// Programs run in place of images' containers, in this process; by the images' names
	// without tags, as docker.io/library/busybox.
	Programs map[string]Program
}

// Program does what an image's container does.
type Program func(ctx context.Context, container Container) (exitCode int)

// errNoCommand tells what can't be known without the image.
var errNoCommand = errors.New("its command is known to its image only; name it as cmd in job/config.yaml")

// killDelay is the time between SIGTERM and SIGKILL.
const killDelay = 5 * time.Second

// Run runs a program of its image if there is one, else its command.
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
	command := exec.CommandContext(ctx, container.Command[0], slices.Concat(container.Command[1:], container.Arguments)...) //nolint:gosec // that is what it is for
	command.Stdout, command.Stderr = container.Output, container.Output
	command.Dir = container.Directory
	if container.WorkingDir != "" {
		command.Dir = container.WorkingDir
	}
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + container.Directory, "TMPDIR=" + os.TempDir()}
	for name, value := range container.Environment {
		command.Env = append(command.Env, name+"="+value)
	}
	// The whole group ends, as all of a container's processes do.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGTERM) }
	command.WaitDelay = killDelay
	err := command.Run()
	if command.Process != nil {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // what is left of the group
	}
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay), command.ProcessState != nil && command.ProcessState.Success():
		return 0, nil
	case errors.As(err, &exit):
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			const signalled = 128 // as a shell has it
			return signalled + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	default:
		return 0, err
	}
}

// moved replaces the mount path by the directory that stands for it.
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
			// The path itself, not the beginning of another name.
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

// nameOf is an image's whole name without its tag: locustio/locust:2 is
// docker.io/locustio/locust.
func nameOf(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	return named.Name()
}

// containerLog is what a container has printed, up to a limit.
type containerLog struct {
	mutex   sync.Mutex
	content []byte
}

// maxLog is the most that is kept of a log; the kubelet rotates at 10 MiB.
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

// expand replaces $(NAME) by the variable's value, as the kubelet does in
// commands, arguments and values; $$ stands for $, and what is not known stays.
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
