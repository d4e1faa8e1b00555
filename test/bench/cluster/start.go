package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// startsEach is how many times each function is started.
	startsEach = 20
	// startPort is the port of the second process in a pod.
	startPort  = "18080"
	startLimit = time.Minute
)

// starts measures the time from the start of a function's process until it is ready, for a second process in a
// running pod.
func (b *bench) starts(ctx context.Context) error {
	if _, err := b.sequences(ctx, 1); err != nil { // it starts the pods
		return err
	}
	for _, name := range []string{"executor", "watcher"} {
		number, environment, err := runs("/ko-app/" + name)
		if err != nil {
			return err
		}
		pods, err := b.pods(ctx)
		if err != nil {
			return err
		}
		index := slices.IndexFunc(pods, func(pod corev1.Pod) bool { return slices.Contains(environment, "HOSTNAME="+pod.Name) })
		if index < 0 {
			return fmt.Errorf("the pod of %s has ended", name)
		}
		environment = append(environment, "PORT="+startPort) // the last of two values is used
		var took []float64
		for range startsEach {
			one, err := start(ctx, number, name, environment, "http://"+pods[index].Status.PodIP+":"+startPort+"/readyz")
			if err != nil {
				return err
			}
			took = append(took, inMilliseconds(one))
		}
		b.report.add("start of "+name+"'s process to ready", "ms", "", took...)
	}
	return nil
}

// runs returns the number and the environment of a process that runs a program.
func runs(path string) (number string, environment []string, err error) {
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return "", nil, fmt.Errorf("list processes: %w", err)
	}
	for _, file := range found {
		command, _ := os.ReadFile(file) //nolint:gosec // the process may have ended
		if strings.TrimRight(string(command), "\x00") != path {
			continue
		}
		content, err := os.ReadFile(filepath.Join(filepath.Dir(file), "environ"))
		if err != nil {
			return "", nil, fmt.Errorf("read the environment of %s: %w", path, err)
		}
		return filepath.Base(filepath.Dir(file)), strings.Split(strings.TrimRight(string(content), "\x00"), "\x00"), nil
	}
	return "", nil, fmt.Errorf("%s does not run", path)
}

// start starts a program and returns the time until it reports ready.
func start(ctx context.Context, where, name string, environment []string, ready string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	//nolint:gosec // what this machine runs
	command := exec.CommandContext(ctx, "nsenter", "--target", where, "--mount", "--net", "/ko-app/"+name)
	command.Env = environment
	began := time.Now()
	if err := command.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", name, err)
	}
	err := awaitReady(ctx, ready)
	took := time.Since(began)
	cancel()
	_ = command.Wait() // it was killed
	return took, err
}

// awaitReady polls every millisecond until the function is ready.
func awaitReady(ctx context.Context, address string) error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
		if err != nil {
			return fmt.Errorf("ask whether a function is ready: %w", err)
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(response.Status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("ask whether a function is ready: %w", err)
		case <-ticker.C:
		}
	}
}
