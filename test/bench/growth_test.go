package bench

import (
	"fmt"
	"math"
	"os"
	"testing"
)

func TestExponent(t *testing.T) {
	for _, test := range []struct {
		name  string
		costs []float64
		want  float64
	}{
		{"what costs the same", []float64{3, 3, 3, 3}, 0},
		{"what costs twice as much for twice as many", []float64{5, 10, 20, 40}, 1},
		{"what costs four times as much", []float64{1, 4, 16, 64}, 2},
		{"what has a part that stays", []float64{11, 12, 14, 18}, 0.2357},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Exponent([]float64{100, 200, 400, 800}, test.costs); math.Abs(got-test.want) > 1e-3 {
				t.Errorf("got %.4f, want %.4f", got, test.want)
			}
		})
	}
}

func TestSlopeHasAnError(t *testing.T) {
	for _, test := range []struct {
		name        string
		ys          []float64
		slope, each float64
	}{
		{"a line", []float64{1, 3, 5, 7}, 2, 0},
		{"what stays", []float64{4, 4, 4, 4}, 0, 0},
		{"what varies", []float64{0, 2, 0, 2}, 0.4, 0.5657}, // residuals -0.4, 1.2, -1.2, 0.4; sqrt(3.2 / 2 / 5)
	} {
		t.Run(test.name, func(t *testing.T) {
			slope, standardError := Slope([]float64{0, 1, 2, 3}, test.ys)
			if math.Abs(slope-test.slope) > 1e-3 || math.Abs(standardError-test.each) > 1e-3 {
				t.Errorf("got %.4f ± %.4f, want %.4f ± %.4f", slope, standardError, test.slope, test.each)
			}
		})
	}
	if _, standardError := Slope([]float64{0, 1}, []float64{0, 1}); !math.IsNaN(standardError) {
		t.Errorf("two points have an error of %v", standardError)
	}
}

// BenchmarkGrowth measures a function's CPU time for more of something in milliseconds, and fails if it grows
// faster than linearly. Elapsed time would depend on other load.
func BenchmarkGrowth(b *testing.B) {
	keys := installKeys(b)
	for _, growth := range []struct {
		name, program string
		// step is the smallest of four sizes, which double.
		step int
		load func(size int) load
		done func(w *world, output string) bool
	}{
		{"open events", "bridge", 1250, func(size int) load { return load{Namespaces: 1, OpenEvents: size} }, gaveAll},
		{"finished Jobs", "jobsource", 2500, func(size int) load { return load{Namespaces: 1, FinishedJobs: size} }, said("watching Jobs")},
		{"namespaces", "watcher", 7, func(size int) load {
			return load{Namespaces: size, FinishedJobs: 100, ReportedRuns: 100, TasksOfARun: 1, Attempts: 1, LogBytes: 1 << 10}
		}, said("done")},
		{"MiB of a log", "watcher", 8, func(size int) load {
			return load{Namespaces: 1, FinishedJobs: 4, ReportedRuns: 4, TasksOfARun: 1, Attempts: 1, LogBytes: size << 20}
		}, said("done")},
	} {
		b.Run(growth.name, func(b *testing.B) {
			for b.Loop() {
				var sizes, costs []float64
				for size := growth.step; size <= 8*growth.step; size *= 2 {
					ended := underLoad(b, keys, growth.program, "", growth.load(size), growth.done, func(*os.Process) {})
					cost := float64((ended.UserTime() + ended.SystemTime()).Microseconds()) / 1000
					sizes, costs = append(sizes, float64(size)), append(costs, cost)
					b.ReportMetric(cost, fmt.Sprintf("ms@%d", size))
				}
				exponent := Exponent(sizes, costs)
				b.ReportMetric(exponent, "exponent")
				if exponent > MaxExponent {
					b.Errorf("for more %s the CPU grows with an exponent of %.2f", growth.name, exponent)
				}
			}
			b.ReportMetric(0, "ns/op") // elapsed time says nothing
		})
	}
}
