package traces

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/test/console"
)

func TestStartedEventsOfAnnouncedRunsAreComparedLikeOthers(t *testing.T) {
	spans := func(parentOfSent string) []console.Span {
		return []console.Span{
			{ID: "task", Name: "test"}, {ID: "other", Name: "process test.started", ParentID: "elsewhere"},
			{ID: "send", Name: "send test.triggered", ParentID: "task"}, {ID: "process", Name: "process test.triggered", ParentID: "send"},
			{ID: "answer", Name: "process test.started", ParentID: "process"}, {ID: "sent", Name: "send test.started", ParentID: parentOfSent},
		}
	}
	for name, test := range map[string]struct{ parent, want string }{
		"below the answer": {"answer", "answer"}, "below the task": {"task", "answer"}, "below another task": {"another", "another"},
	} {
		t.Run(name, func(t *testing.T) {
			got := spans(test.parent)
			adoptStarted(got)
			if difference := cmp.Diff(spans(test.want), got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}
