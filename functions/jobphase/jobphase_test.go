package jobphase

import (
	"slices"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
)

func TestOfJobsTravelInAnAttribute(t *testing.T) {
	two := []Phases{{Pending: 2 * time.Second, Run: 1500 * time.Millisecond}, {Queued: 0, Run: time.Hour}}
	for _, test := range []struct {
		name string
		jobs []Phases
		want []Phases
	}{
		{name: "of each Job", jobs: two, want: two},
		{name: "none"},
		{name: "of so many as find place", jobs: slices.Repeat(two, 80), want: slices.Repeat(two, maxPhases/2)},
	} {
		t.Run(test.name, func(t *testing.T) {
			if difference := cmp.Diff(test.want, Of(Add(event.New(), test.jobs))); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// Anybody may send such an event, and each name becomes a label of a metric.
func TestPhasesThatAreNoneAreLeftOut(t *testing.T) {
	for told, want := range map[string][]Phases{
		"run=1s,other=1s,pending=-1s,queued=soon;;=;run": {{Run: time.Second}}, "": nil, "run": nil,
	} {
		answer := event.New()
		answer.SetExtension(Extension, told)
		if difference := cmp.Diff(want, Of(answer)); difference != "" {
			t.Errorf("%q (-want +got):\n%s", told, difference)
		}
	}
}
