package main

import (
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func reportOf(rate, latency float64) *report {
	created := &report{Machine: "2 cores"}
	created.add("bare loop", perSecond, "", 100)
	created.add("burst", perSecond, "bare loop", rate)
	created.add("peer", perSecond, "", 2)
	created.add("burst", perSecond, "peer", rate)
	created.add("hello", "ms", "", 18, 20, 22)
	created.add("started", "ms", "hello", 0.95*latency, latency, 1.05*latency)
	created.add("started, over HTTP", "ms", "hello", latency/100, 5*latency, 6*latency)
	created.add("started, from zero", "ms", "hello", 100*latency)
	created.add("memory", "MiB", "", 20)
	return created
}

func TestWhatIsWorseThanBeforeIsTold(t *testing.T) {
	tests := []struct {
		name          string
		rate, latency float64
		want          []string
	}{
		{name: "as before", rate: 50, latency: 40},
		{name: "within the noise", rate: 34, latency: 59},
		{name: "better", rate: 500, latency: 4},
		{name: "a rate that is lower", rate: 30, latency: 40, want: []string{
			"burst is 0.30 × bare loop, and was 0.50 ×", "burst is 15.00 × peer, and was 25.00 ×",
		}},
		{name: "a time that is longer, from zero perhaps by chance", rate: 50, latency: 69, want: []string{"started is 3.45 × hello, and was 2.00 ×"}},
		{name: "times that are longer", rate: 50, latency: 80, want: []string{
			"started is 4.00 × hello, and was 2.00 ×", "started, from zero is 400.00 × hello, and was 200.00 ×",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if difference := cmp.Diff(test.want, reportOf(test.rate, test.latency).compare(reportOf(50, 40))); difference != "" {
				t.Errorf("worse (-want +got):\n%s", difference)
			}
		})
	}
}

func TestWhatGrowsFasterIsTold(t *testing.T) {
	created := &report{}
	created.add("CPU of the Broker", exponent, "", 0.9)
	created.add("CPU of the bridge", exponent, "", 1.9)
	if difference := cmp.Diff([]string{"CPU of the bridge grows with an exponent of 1.90"}, created.tooSteep()); difference != "" {
		t.Errorf("too steep (-want +got):\n%s", difference)
	}
}

func TestGoalsAreReachedOrMissed(t *testing.T) {
	created := &report{}
	created.add(helloWarm, "ms", "", 10)
	created.add("triggered to started, warm", "ms", helloWarm, 29)
	created.add("completed to finished, warm", "ms", helloWarm, 31)
	created.add("events that become Jobs, 20 in a burst", perSecond, bareLoop, 20)
	created.add(formerName+": events that become Jobs, 20 in a burst", perSecond, "", 10)
	created.add("events that become Jobs, 20 in a burst", perSecond, formerName+": events that become Jobs, 20 in a burst", 20)
	created.add("memory of bridge while idle", "MiB", "", 10)
	created.add("memory of jobsource while idle", "MiB", "", 6)
	created.add("CPU of bridge while idle", "m", "", 1) // and none of jobsource
	var table strings.Builder
	if err := created.writeGoals(&table); err != nil {
		t.Fatal(err)
	}
	var got [][]string
	for _, line := range strings.Split(strings.TrimSpace(table.String()), "\n")[1:] {
		got = append(got, regexp.MustCompile(` {2,}`).Split(strings.TrimSpace(line), -1))
	}
	want := [][]string{
		{"triggered to started, warm", "at most 3", "2.9", "× " + helloWarm, "reached"},
		{"completed to finished, warm", "at most 3", "3.1", "× " + helloWarm, "missed"},
		{"events that become Jobs, 20 in a burst", "at least 1.2", "2", "× " + formerName + ": events that become Jobs, 20 in a burst", "reached"},
		{"memory of bridge while idle + memory of jobsource while idle", "at most 15", "16", "MiB", "missed"},
	}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("goals (-want +got):\n%s", difference)
	}
}

func TestTableHasNoiseAndRatios(t *testing.T) {
	var table strings.Builder
	if err := reportOf(50, 40).write(&table); err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		"bare loop           100   100     100   100   1/s",
		"hello               18    20      22    22    ms",
		"started             38    40      42    42    ms    2.00    hello",
	} {
		if !strings.Contains(table.String(), row) {
			t.Errorf("%q is missing in:\n%s", row, &table)
		}
	}
	if value := (figure{}).median(); !math.IsNaN(value) {
		t.Errorf("the median of nothing is %v", value)
	}
}
