package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// down stops everything that up started, in any state.
func (c *cluster) down(ctx context.Context) error {
	return c.progress.step("taking the cluster down", 10*time.Second, func() error {
		_ = os.Remove(c.file("up"))
		// First stop everything that would restart something, then the containers, then the rest.
		if err := c.stopProcesses(ctx, "kubelet", "kube-controller-manager", "kube-scheduler"); err != nil {
			return err
		}
		if err := c.endContainers(ctx); err != nil {
			return err
		}
		if err := c.stopProcesses(ctx, "coredns", "kube-router", "kube-proxy", "traefik", "nats-server", topologyOperator, "rabbitmq", "epmd",
			"containerd", "registry", "kube-apiserver", "etcd"); err != nil {
			return err
		}
		if err := unmountBelow(c.state); err != nil {
			return err
		}
		if _, err := os.Stat("/run/netns/" + namespace); err == nil {
			if left := inNamespace(); len(left) > 0 {
				return fmt.Errorf("still at work in the cluster's network, end them first: %s", strings.Join(left, ", "))
			}
			// This also deletes the interfaces.
			if err := c.quiet(ctx, "/", "ip", "netns", "delete", namespace); err != nil {
				return err
			}
		}
		removeControlGroups()
		removeTraces(c.state)
		if err := os.RemoveAll(c.state); err != nil {
			return fmt.Errorf("remove the cluster's state: %w", err)
		}
		return nil
	})
}

func (c *cluster) stopProcesses(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := c.process(name).stop(ctx); err != nil {
			return err
		}
	}
	return nil
}

// endContainers stops the cluster's containers. It finds them by their shims, which survive containerd and name
// its socket.
func (c *cluster) endContainers(ctx context.Context) error {
	return wait(ctx, 20*time.Second, func() error {
		shims := c.shims()
		for _, shim := range shims {
			for _, child := range descendants(shim) {
				_ = syscall.Kill(child, syscall.SIGKILL)
			}
			_ = syscall.Kill(shim, syscall.SIGKILL)
		}
		if len(shims) > 0 {
			return fmt.Errorf("%d containers do not end", len(shims))
		}
		return nil
	})
}

func (c *cluster) shims() []int {
	var found []int
	for _, pid := range processes() {
		content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err == nil && strings.Contains(string(content), "containerd-shim") && strings.Contains(string(content), c.file("containerd.sock")) && startTime(pid) != "" {
			found = append(found, pid)
		}
	}
	return found
}

// inNamespace returns the processes in the cluster's network namespace, such as a user's command.
func inNamespace() []string {
	namespace, err := os.Stat("/run/netns/" + namespace)
	if err != nil {
		return nil
	}
	var left []string
	for _, pid := range processes() {
		directory := filepath.Join("/proc", strconv.Itoa(pid))
		if its, err := os.Stat(filepath.Join(directory, "ns", "net")); err == nil && os.SameFile(namespace, its) && startTime(pid) != "" {
			name, _ := os.ReadFile(filepath.Join(directory, "comm")) //nolint:gosec // below /proc
			left = append(left, fmt.Sprintf("%s (process %d)", strings.TrimSpace(string(name)), pid))
		}
	}
	return left
}

func processes() []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// descendants returns the children of a process and their descendants.
func descendants(parent int) []int {
	var found []int
	for _, pid := range processes() {
		content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(content), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			found = append(found, descendants(pid)...)
			found = append(found, pid)
		}
	}
	return found
}

// unmountBelow unmounts everything below a directory, the deepest mount first.
func unmountBelow(directory string) error {
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("read the mounts: %w", err)
	}
	defer func() { _ = mounts.Close() }()
	var points []string
	for scanner := bufio.NewScanner(mounts); scanner.Scan(); {
		const mountPoint = 4
		if fields := strings.Fields(scanner.Text()); len(fields) > mountPoint && strings.HasPrefix(fields[mountPoint], directory+"/") {
			points = append(points, fields[mountPoint])
		}
	}
	var failures []error
	for _, point := range slices.Backward(points) {
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			failures = append(failures, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(failures...)
}

// removeTraces removes the remains of containerd, the kubelet and ip in places that cannot be configured:
// unused sockets, dangling links to logs, results of CNI, and the mount of an empty /run/netns. They are
// harmless, so failures are ignored.
func removeTraces(state string) {
	sockets, _ := filepath.Glob("/run/containerd/s/*")
	for _, socket := range sockets {
		connection, err := net.Dial("unix", socket) //nolint:noctx // it answers at once, or does not exist
		if errors.Is(err, syscall.ECONNREFUSED) {
			_ = os.Remove(socket)
		} else if err == nil {
			_ = connection.Close()
		}
	}
	links, _ := filepath.Glob("/var/log/containers/*.log")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, state+"/") {
			_ = os.Remove(link)
		}
	}
	results, _ := filepath.Glob("/var/lib/cni/results/job-executor-*")
	for _, result := range results {
		container := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(result), "job-executor-"), "-eth0")
		_ = os.Remove(filepath.Join(filepath.Dir(result), "cni-loopback-"+container+"-lo"))
		_ = os.Remove(result)
	}
	if names, err := os.ReadDir("/run/netns"); err == nil && len(names) == 0 {
		_ = syscall.Unmount("/run/netns", 0)
	}
}

// removeControlGroups removes the kubelet's control groups. Only empty ones can
// be removed, so those of another kubelet stay.
func removeControlGroups() {
	for _, pattern := range []string{"/sys/fs/cgroup/kubepods", "/sys/fs/cgroup/*/kubepods", "/sys/fs/cgroup/*/system.slice/kubepods"} {
		roots, _ := filepath.Glob(pattern)
		for _, root := range roots {
			var groups []string
			_ = filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					groups = append(groups, path)
				}
				return nil
			})
			for _, group := range slices.Backward(groups) {
				_ = os.Remove(group)
			}
		}
	}
}
