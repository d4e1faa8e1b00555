package jaeger

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTreeLeavesOutSpansButNotTheirChildren(t *testing.T) {
	spans := []Span{
		{ID: "1", Service: "bridge", Name: "triggered", Duration: 1500 * time.Millisecond},
		{ID: "2", ParentID: "1", Service: "inner", Name: "hop", Duration: time.Second},
		{ID: "3", ParentID: "2", Service: "executor", Name: "handle", Duration: 20 * time.Millisecond},
		{ID: "4", ParentID: "1", Service: "watcher", Name: "job", Duration: time.Minute},
		{ID: "5", ParentID: "missing", Service: "watcher", Name: "orphan", Duration: time.Millisecond},
	}
	const want = "" +
		"bridge: triggered                                                                         1.50 s\n" +
		"├─ executor: handle                                                                      20.0 ms\n" +
		"└─ watcher: job                                                                          60.00 s\n" +
		"watcher: orphan                                                                           1.0 ms\n"
	if difference := cmp.Diff(want, Tree(spans, func(span Span) bool { return span.Service != "inner" })); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
	if IsWhole(spans) || !IsWhole(spans[:4]) {
		t.Error("a trace is whole if the parent of every span is there")
	}
}
