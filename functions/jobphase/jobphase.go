package jobphase

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// The phases of a Job: it waits for the Jobs before it, waits for its pod, and its container
// runs.
const (
	Queued  = "queued"
	Pending = "pending"
	Run     = "run"
)

func names() []string { return []string{Queued, Pending, Run} }

// Phases are how long the phases took that a Job had, by their names.
type Phases map[string]time.Duration

// Extension is the attribute of an answer, or of a LogError, that holds the Phases of its
// run's Jobs. It is for the bridge only, which is there to be asked for metrics when the watcher
// is not.
const Extension = "jobphases"

// maxPhases bounds of how many Jobs an attribute tells, which travels as a header.
const maxPhases = 100

// Add returns an event with the Phases of its run's Jobs, of the first maxPhases.
func Add(answer event.Event, jobs []Phases) event.Event {
	var told []string
	for _, job := range jobs[:min(len(jobs), maxPhases)] {
		var phases []string
		for _, phase := range names() {
			if took, ok := job[phase]; ok {
				phases = append(phases, fmt.Sprintf("%s=%s", phase, took))
			}
		}
		told = append(told, strings.Join(phases, ","))
	}
	if len(told) == 0 {
		return answer
	}
	answer = answer.Clone()
	answer.SetExtension(Extension, strings.Join(told, ";"))
	return answer
}

// Of reads the Phases of a run's Jobs; what is none is left out.
func Of(answer event.Event) []Phases {
	told, _ := answer.Extensions()[Extension].(string)
	var jobs []Phases
	for _, one := range strings.SplitN(told, ";", maxPhases) {
		job := Phases{}
		for phase := range strings.SplitSeq(one, ",") {
			name, length, _ := strings.Cut(phase, "=")
			took, err := time.ParseDuration(length)
			if err == nil && took >= 0 && slices.Contains(names(), name) {
				job[name] = took
			}
		}
		if len(job) > 0 {
			jobs = append(jobs, job)
		}
	}
	return jobs
}
