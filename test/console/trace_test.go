package console

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/cli/jaeger"
)

func TestOutlineHasEachKindOfSpanOnce(t *testing.T) {
	spans := []Span{
		{ID: "1", Kind: "SERVER", Service: "job-executor-bridge", Name: "RUN test", Result: "failure", Error: "it broke"},
		{ID: "2", ParentID: "1", Kind: "PRODUCER", Service: "job-executor-bridge", Name: "send"},
		{ID: "3", ParentID: "1", Kind: "PRODUCER", Service: "job-executor-bridge", Name: "send"},
		{ID: "4", ParentID: "2", Kind: "CONSUMER", Service: "job-executor-watcher", Name: "process"},
		{ID: "5", ParentID: "3", Kind: "CONSUMER", Service: "job-executor-watcher", Name: "process"},
		{ID: "6", ParentID: "5", Kind: "INTERNAL", Service: "job-executor-watcher", Name: "read logs"},
		{ID: "7", ParentID: "missing", Kind: "CLIENT", Service: "broker", Name: "POST"},
	}
	const want = `SERVER bridge RUN test = failure ! it broke
  PRODUCER bridge send
    CONSUMER watcher process
      INTERNAL watcher read logs
without their parents:
  CLIENT broker POST
`
	if difference := cmp.Diff(want, Outline(spans)); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
	if got := jaeger.OfOurs(spans); len(got) != 6 || Depth(got) != 4 || Depth(nil) != 0 {
		t.Errorf("%d of ours, %d deep", len(got), Depth(got))
	}
}
