package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a background program of the cluster. Its file has the process id and the start time, because ids
// are reused.
type process struct {
	name string
	file string
}

func (c *cluster) process(name string) process {
	return process{name: name, file: c.file("processes/" + name)}
}

// start starts a program unless it runs. Its output goes to the log directory. Ready is polled until it returns
// nil.
func (c *cluster) start(ctx context.Context, name string, ready func(context.Context) error, program string, arguments ...string) error {
	process := c.process(name)
	if _, running := process.pid(); !running {
		log, err := os.OpenFile(c.file("log/"+name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644) //nolint:gosec // a log to be read
		if err != nil {
			return fmt.Errorf("open the log of %s: %w", name, err)
		}
		defer func() { _ = log.Close() }()
		// Not CommandContext: the program outlives this one.
		command := exec.Command(program, arguments...) //nolint:noctx // the program outlives this one
		command.Dir = c.state
		command.Stdout, command.Stderr = log, log
		command.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
		command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := command.Start(); err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
		if err := os.WriteFile(process.file, fmt.Appendf(nil, "%d %s", command.Process.Pid, startTime(command.Process.Pid)), 0o600); err != nil {
			return fmt.Errorf("record the process of %s: %w", name, err)
		}
		// Nobody waits for the program: init adopts it.
		if err := command.Process.Release(); err != nil {
			return fmt.Errorf("release %s: %w", name, err)
		}
	}
	if ready == nil {
		return nil
	}
	return wait(ctx, time.Minute, func() error {
		if _, running := process.pid(); !running {
			return fatal{fmt.Errorf("%s ended: %s", name, c.lastLog(name))}
		}
		return ready(ctx)
	})
}

func (c *cluster) lastLog(name string) string {
	content, _ := os.ReadFile(c.file("log/" + name + ".log"))
	return lastLines(string(content), 5)
}

// pid returns the process id, and whether the process runs.
func (p process) pid() (int, bool) {
	content, err := os.ReadFile(p.file)
	if err != nil {
		return 0, false
	}
	id, started, _ := strings.Cut(string(content), " ")
	pid, err := strconv.Atoi(id)
	return pid, err == nil && started != "" && startTime(pid) == started
}

// ended returns the names of started programs that no longer run, for example after the machine was restarted.
func (c *cluster) ended() []string {
	started, _ := os.ReadDir(c.file("processes"))
	var names []string
	for _, file := range started {
		if _, running := c.process(file.Name()).pid(); !running {
			names = append(names, file.Name())
		}
	}
	return names
}

// pause stops a program for a while. Its connections stay open, but it does not answer.
func (c *cluster) pause(ctx context.Context, name, length string) error {
	duration, err := time.ParseDuration(length)
	if err != nil {
		return fmt.Errorf("read for how long: %w", err)
	}
	pid, running := c.process(name).pid()
	if !running {
		return fmt.Errorf("%s does not run", name)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(duration):
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		return fmt.Errorf("having %s go on: %w", name, err)
	}
	return nil
}

// startTime returns when a process started, in the kernel's units; empty for a zombie or an unknown process.
func startTime(pid int) string {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	// The name in parentheses may contain spaces; later fields do not.
	_, rest, _ := strings.Cut(string(content), ") ")
	fields := strings.Fields(rest)
	const stateField, startField = 0, 19
	if len(fields) <= startField || fields[stateField] == "Z" {
		return ""
	}
	return fields[startField]
}

// stop ends a process by SIGTERM, and after some seconds by SIGKILL.
func (p process) stop(ctx context.Context) error {
	pid, running := p.pid()
	for attempt := 0; running; attempt++ {
		signal := syscall.SIGTERM
		const politePeriods = 40
		if attempt >= politePeriods {
			signal = syscall.SIGKILL
		}
		if attempt%politePeriods == 0 {
			_ = syscall.Kill(pid, signal)
		}
		const patience = 100
		if attempt > patience {
			return fmt.Errorf("%s (process %d) does not end", p.name, pid)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		pid, running = p.pid()
	}
	_ = os.Remove(p.file)
	return nil
}

// fatal is an error that no retry fixes.
type fatal struct{ error }

// wait polls until a check succeeds, up to a limit.
func wait(ctx context.Context, limit time.Duration, done func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := done()
		if err == nil {
			return nil
		}
		if _, hopeless := err.(fatal); hopeless || time.Now().After(deadline) { //nolint:errorlint // only unwrapped
			return err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, duration time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(duration):
		return nil
	}
}
