package bridge

import (
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
