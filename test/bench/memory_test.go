//go:build !race

// The race detector needs several times the memory itself.

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
)

// limitOf returns the memory limit and the GOMEMLIMIT of a function's manifest.
func limitOf(t *testing.T, manifest string) (bytes int64, goLimit string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../../config", manifest))
	if err != nil {
		t.Fatal(err)
	}
	limit := regexp.MustCompile(`limits: \{[^}]*memory: (\w+)\}`).FindSubmatch(content)
	soft := regexp.MustCompile(`name: GOMEMLIMIT, value: (\w+)\}`).FindSubmatch(content)
	if limit == nil || soft == nil {
		t.Fatalf("%s has no limit of memory, or no GOMEMLIMIT", manifest)
	}
	quantity, err := resource.ParseQuantity(string(limit[1]))
	if err != nil {
		t.Fatal(err)
	}
	return quantity.Value(), string(soft[1])
}

// anonymous returns a process' unreclaimable memory in bytes.
func anonymous(t *testing.T, pid int) int64 {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatalf("the function has ended: %v", err)
	}
	match := regexp.MustCompile(`RssAnon:\s+(\d+) kB`).FindSubmatch(content)
	if match == nil {
		t.Fatal("the function has ended")
	}
	kilobytes, err := strconv.ParseInt(string(match[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

// TestMemoryIsEnough puts each function under a heavy load.
func TestMemoryIsEnough(t *testing.T) {
	tests := []struct {
		name, program, manifest string
		load                    load
		done                    func(w *world, output string) bool
	}{
		{
			name: "10,000 open events of 6 KB", program: "bridge", manifest: "600-bridge.yaml",
			load: load{Namespaces: 1, OpenEvents: 10000}, done: gaveAll,
		},
		{
			name: "20,000 finished Jobs", program: "jobsource", manifest: "600-jobsource.yaml",
			load: load{Namespaces: 1, FinishedJobs: 20000}, done: said("watching Jobs"),
		},
		{
			name: "100 runs of four logs of 3 MiB", program: "watcher", manifest: "700-watcher.yaml",
			load: load{Namespaces: 1, FinishedJobs: 100, ReportedRuns: 100, TasksOfARun: 4, Attempts: 1, LogBytes: 3 << 20}, done: said("done"),
		},
		{
			name: "100 tasks, eleven attempts and logs of 300 KiB", program: "watcher", manifest: "700-watcher.yaml",
			load: load{Namespaces: 1, FinishedJobs: 1, ReportedRuns: 1, TasksOfARun: 100, Attempts: 11, LogBytes: 300 << 10}, done: said("done"),
		},
		{
			name: "20 events of 4 MiB as YAML", program: "executor", manifest: "700-executors.yaml",
			load: load{Namespaces: 1, LargeEvents: 20}, done: said("done"),
		},
	}
	keys := installKeys(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			limit, goLimit := limitOf(t, test.manifest)
			var highest int64
			underLoad(t, keys, test.program, goLimit, test.load, test.done, func(process *os.Process) { highest = max(highest, anonymous(t, process.Pid)) })
			t.Logf("%s: %d MiB at most of %d MiB", test.program, highest>>20, limit>>20)
			if highest > limit {
				t.Errorf("%s needs %d MiB, and may have %d MiB", test.program, highest>>20, limit>>20)
			}
		})
	}
}
