package bridge

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/job-executor/job-executor/functions/election"
	"github.com/job-executor/job-executor/functions/keptn"
)

func TestSourceTellsInstallationsApart(t *testing.T) {
	configuration := Configuration{
		Registration: RegistrationConfiguration{Name: "job-executor"}, Pod: PodConfiguration{Pod: election.Pod{Namespace: "job-executor"}},
	}
	one, other := sourceOf(configuration, []byte("one")), sourceOf(configuration, []byte("other"))
	if one == other || one != sourceOf(configuration, []byte("one")) || !strings.HasPrefix(one, keptn.Source+"-") || len(one) != len(keptn.Source)+9 {
		t.Errorf("got %s and %s", one, other)
	}
}

// The log names each unsubscribed type of task once, however many events of it Keptn publishes.
func TestUnsubscribedTasksAreLoggedOnce(t *testing.T) {
	var log strings.Builder
	wants := loggingUnwanted(
		func(eventType string) bool { return eventType == "sh.keptn.event.test.triggered" }, slog.New(slog.NewJSONHandler(&log, nil)))
	for range 2 {
		for eventType, want := range map[string]bool{
			"sh.keptn.event.test.triggered": true, "sh.keptn.event.release.triggered": false, "sh.keptn.event.release.started": false,
			"sh.keptn.event.dev.delivery.triggered": false,
		} {
			if got := wants(eventType); got != want {
				t.Errorf("%s is wanted: %v", eventType, got)
			}
		}
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"type":"sh.keptn.event.release.triggered"`) {
		t.Errorf("the log is:\n%s", got)
	}
}
