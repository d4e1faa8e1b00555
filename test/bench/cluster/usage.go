package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/test/system"
)

// processor is how many seconds of CPU processes have used, by their number and name.
type processor map[process]float64

type process struct{ number, name string }

// ticks is how many a second of CPU has (proc(5); it is 100 on every Linux).
const ticks = 100

// usage reads it of all processes of the machine, on which the cluster is.
func usage() (processor, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	used := processor{}
	for _, path := range stats {
		content, err := os.ReadFile(path) //nolint:gosec // of a process
		if errors.Is(err, fs.ErrNotExist) || err != nil && strings.Contains(err.Error(), "no such process") {
			continue // it has ended
		}
		if err != nil {
			return nil, fmt.Errorf("reading what a process has used: %w", err)
		}
		head, tail, _ := strings.Cut(string(content), ") ")
		number, name, _ := strings.Cut(head, " (")
		fields := strings.Fields(tail)
		const user, kernel = 11, 12
		if len(fields) <= kernel {
			return nil, fmt.Errorf("process %s has only %d fields", number, len(fields))
		}
		inUser, userErr := strconv.ParseFloat(fields[user], 64)
		inKernel, kernelErr := strconv.ParseFloat(fields[kernel], 64)
		if err := errors.Join(userErr, kernelErr); err != nil {
			return nil, fmt.Errorf("reading what process %s has used: %w", number, err)
		}
		used[process{number, name}] = (inUser + inKernel) / ticks
	}
	return used, nil
}

// since is what was used by programs since an earlier reading: those that used the most, and the others
// together.
func (used processor) since(earlier processor) map[string]float64 {
	programs, all := map[string]float64{}, 0.0
	for process, seconds := range used {
		programs[process.name] += seconds - earlier[process]
		all += seconds - earlier[process]
	}
	const least = 0.02 // of all
	others := 0.0
	for name, seconds := range programs {
		if seconds < least*all {
			others += seconds
			delete(programs, name)
		}
	}
	programs["others"] = others
	programs["all"] = all
	return programs
}

// pod is what a pod has used: bytes of memory now, as the kernel counts them against its limit, and
// seconds of CPU in all.
type pod struct{ memory, seconds float64 }

// cgroups reads what the pods of the functions have used that always run.
func cgroups(ctx context.Context, installed *system.Installation) (map[string]pod, error) {
	used := map[string]pod{}
	for _, name := range []string{"bridge", "jobsource"} {
		pods, err := installed.Kubernetes.CoreV1().Pods(system.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + name})
		if err != nil {
			return nil, fmt.Errorf("listing the pods of %s: %w", name, err)
		}
		for _, found := range pods.Items {
			memory, memoryErr := ofPod(string(found.UID), map[string]string{"memory.current": "", "memory.usage_in_bytes": ""})
			seconds, processorErr := ofPod(string(found.UID), map[string]string{"cpu.stat": "usage_usec ", "cpuacct.usage": ""})
			if err := errors.Join(memoryErr, processorErr); err != nil {
				return nil, fmt.Errorf("reading what %s has used: %w", found.Name, err)
			}
			sum := used[name]
			used[name] = pod{sum.memory + memory, sum.seconds + seconds}
		}
	}
	return used, nil
}

// inSeconds is how many of a file's unit are a second: version 2 of cgroups counts microseconds, version 1
// nanoseconds.
var inSeconds = map[string]float64{"cpu.stat": 1e6, "cpuacct.usage": 1e9}

// ofPod is the number in the one file of a pod's cgroup that there is, after a prefix of its line.
func ofPod(uid string, files map[string]string) (found float64, err error) {
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		isPod := err == nil && entry.IsDir() &&
			(strings.Contains(entry.Name(), uid) || strings.Contains(entry.Name(), strings.ReplaceAll(uid, "-", "_")))
		for name, prefix := range files {
			if !isPod {
				break
			}
			value, err := number(filepath.Join(path, name), prefix)
			if err == nil {
				found = value / cmp.Or(inSeconds[name], 1)
				return fs.SkipAll
			}
		}
		return nil // a file that can't be read is not the pod's, or of another controller
	})
	if found == 0 && err == nil {
		err = fmt.Errorf("pod %s has no cgroup", uid)
	}
	return found, err
}

// number is the one that stands in a file after a prefix of its line.
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
