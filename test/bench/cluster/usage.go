package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// processor is the CPU time of processes in seconds.
type processor map[process]float64

type process struct{ number, name string }

// ticks is the number of CPU ticks per second (proc(5); 100 on every Linux).
const ticks = 100

// usage reads the CPU time of all processes of the machine.
func usage() (processor, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	used := processor{}
	for _, path := range stats {
		content, err := os.ReadFile(path) //nolint:gosec // of a process
		if errors.Is(err, fs.ErrNotExist) || err != nil && strings.Contains(err.Error(), "no such process") {
			continue // it has ended
		}
		if err != nil {
			return nil, fmt.Errorf("read what a process has used: %w", err)
		}
		head, tail, _ := strings.Cut(string(content), ") ")
		number, name, _ := strings.Cut(head, " (")
		name, _, _ = strings.Cut(name, "/") // there are many kernel workers
		fields := strings.Fields(tail)
		const user, kernel = 11, 12
		if len(fields) <= kernel {
			return nil, fmt.Errorf("process %s has only %d fields", number, len(fields))
		}
		inUser, userErr := strconv.ParseFloat(fields[user], 64)
		inKernel, kernelErr := strconv.ParseFloat(fields[kernel], 64)
		if err := errors.Join(userErr, kernelErr); err != nil {
			return nil, fmt.Errorf("read what process %s has used: %w", number, err)
		}
		used[process{number, name}] = (inUser + inKernel) / ticks
	}
	return used, nil
}

// byProgram returns the usage of each program since an earlier reading.
func (p processor) byProgram(earlier processor) map[string]float64 {
	programs := map[string]float64{}
	for process, seconds := range p {
		programs[process.name] += seconds - earlier[process]
	}
	return programs
}

// owners returns the programs of each owner. Linux keeps the first 15 letters of their names. All other programs
// belong to the machine or to tasks.
func owners() map[string][]string {
	return map[string][]string{
		"the service": append(functions(), "fetcher", "jes"),
		"Knative":     {"activator", "autoscaler", "channel_control", "channel_dispatc", "controller", "filter", "ingress", "mtchannel_broke", "queue", "webhook"},
		"Kubernetes": {
			"containerd", "containerd-shim", "coredns", "etcd", "kube-apiserver", "kube-controller", "kube-proxy", "kube-router", "kube-scheduler", "kubelet",
			"pause", "runc", "runc:[2:INIT]", "traefik",
		},
		"the test equipment": {"cluster", "go", "jaeger", "keptn", "nats-server", "registry"},
	}
}

// since returns the usage since an earlier reading: of the top programs, of all others together, and of each owner.
func (p processor) since(earlier processor) map[string]float64 {
	programs, all := p.byProgram(earlier), 0.0
	for _, seconds := range programs {
		all += seconds
	}
	used := map[string]float64{"all": all}
	for owner, names := range owners() {
		for _, name := range names {
			used["all of "+owner] += programs[name]
		}
	}
	const least = 0.03 // of all
	for name, seconds := range programs {
		if seconds < least*all {
			name = "others"
		}
		used[name] += seconds
	}
	return used
}

// cgroup is the usage of a pod or container: current and peak memory in bytes, as the kernel counts it against
// the limit, and CPU seconds.
type cgroup struct {
	// function is its function.
	function              string
	memory, peak, seconds float64
}

// functionOf returns the name of a pod's function.
func functionOf(pod *corev1.Pod) string {
	if service := pod.Labels["serving.knative.dev/service"]; service != "" {
		name, _, _ := strings.Cut(service, "-")
		return name
	}
	return pod.Labels["app.kubernetes.io/name"]
}

// pods returns the running pods of the functions.
func (b *bench) pods(ctx context.Context) ([]corev1.Pod, error) {
	pods, err := b.installed.Kubernetes.CoreV1().Pods(b.functions).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
	if err != nil {
		return nil, fmt.Errorf("list the functions' pods: %w", err)
	}
	return pods.Items, nil
}

// cgroups reads the usage of the functions' pods and of their queue-proxies, by cgroup.
func (b *bench) cgroups(ctx context.Context) (map[string]cgroup, error) {
	pods, err := b.pods(ctx)
	if err != nil {
		return nil, err
	}
	directories, err := cgroupDirectories()
	if err != nil {
		return nil, err
	}
	used := map[string]cgroup{}
	for _, found := range pods {
		name := functionOf(&found)
		names := map[string]string{string(found.UID): name}
		for _, container := range found.Status.ContainerStatuses {
			if _, id, _ := strings.Cut(container.ContainerID, "://"); container.Name == "queue-proxy" {
				names[id] = name + "'s queue-proxy"
			}
		}
		for id, function := range names {
			memory, memoryErr := directories.read(id, map[string]string{"memory.current": "", "memory.usage_in_bytes": ""})
			peak, peakErr := directories.read(id, map[string]string{"memory.peak": "", "memory.max_usage_in_bytes": ""})
			seconds, processorErr := directories.read(id, map[string]string{"cpu.stat": "usage_usec ", "cpuacct.usage": ""})
			if err := errors.Join(memoryErr, peakErr, processorErr); err != nil {
				if found.DeletionTimestamp != nil || found.Labels["serving.knative.dev/service"] != "" {
					continue // the pod ends
				}
				return nil, fmt.Errorf("read what %s has used: %w", found.Name, err)
			}
			used[id] = cgroup{function, memory, peak, seconds}
		}
	}
	return used, nil
}

// used reports each function's usage during a period: the peak memory of one pod, and the current memory of all.
func (b *bench) used(when string, before, after map[string]cgroup, took time.Duration) {
	memory, peak, seconds := map[string]float64{}, map[string]float64{}, map[string]float64{}
	for id, now := range after {
		memory[now.function] += now.memory
		peak[now.function] = max(peak[now.function], now.peak)
		seconds[now.function] += now.seconds - before[id].seconds
	}
	const mebibyte = 1 << 20
	for _, function := range slices.Sorted(maps.Keys(memory)) {
		b.report.add("memory of a pod of "+function+" at most, "+when, "MiB", "", peak[function]/mebibyte)
		b.report.add("memory of "+function+" "+when, "MiB", "", memory[function]/mebibyte)
		b.report.add("CPU of "+function+" "+when, "m", "", seconds[function]/took.Seconds()*1000)
	}
}

// directories are the directories of cgroups. With version 1 of cgroups, a cgroup has one for each controller.
type directories []string

func cgroupDirectories() (found directories, err error) {
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			found = append(found, path)
		}
		return nil // a cgroup may end meanwhile
	})
	return found, err
}

// inSeconds is the number of a file's units in a second. Version 2 of cgroups counts microseconds, version 1
// nanoseconds.
var inSeconds = map[string]float64{"cpu.stat": 1e6, "cpuacct.usage": 1e9}

// read returns the number after a prefix, in the first existing file of a pod's or container's cgroup.
func (d directories) read(id string, files map[string]string) (float64, error) {
	for _, directory := range d {
		name := filepath.Base(directory)
		if !strings.Contains(name, id) && !strings.Contains(name, strings.ReplaceAll(id, "-", "_")) {
			continue
		}
		for file, prefix := range files {
			if value, err := number(filepath.Join(directory, file), prefix); err == nil {
				return value / cmp.Or(inSeconds[file], 1), nil
			} // otherwise the directory belongs to another controller
		}
	}
	return 0, fmt.Errorf("%s has no cgroup", id)
}

// number returns the number after a prefix, in the first line with that prefix.
func number(path, prefix string) (float64, error) {
	content, err := os.ReadFile(path) //nolint:gosec // of a cgroup
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, prefix); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("%s has no %q", path, prefix)
}

// load returns the load average of the last minute.
func load() (float64, error) {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, fmt.Errorf("read the load average: %w", err)
	}
	first, _, _ := strings.Cut(string(content), " ")
	return strconv.ParseFloat(first, 64)
}
