package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/job-executor/job-executor/functions/cli/jaeger"
	"github.com/job-executor/job-executor/test/console"
)

// spans reports the beginning and the duration of each span of a warm task. It counts from the beginning of the
// trace's root.
func (b *bench) spans(ctx context.Context, contexts []string) error {
	var names []string // in the order of their first spans
	begins, takes := map[string][]float64{}, map[string][]float64{}
	count := 0
	for _, keptnContext := range contexts {
		var spans []console.Span
		err := console.Eventually(ctx, stepLimit, func(ctx context.Context) (err error) {
			spans, err = b.installed.Trace(ctx, console.TraceID(keptnContext))
			if err == nil && !console.HasEnded(spans) {
				err = fmt.Errorf("the trace of context %s has only %d spans", keptnContext, len(spans))
			}
			return err
		})
		if err != nil {
			return err
		}
		count = len(spans)
		for _, span := range jaeger.OfOurs(spans) {
			if span.ParentID == "" {
				continue // its name contains the project, which differs in each run
			}
			name := strings.TrimPrefix(span.Service, jaeger.ServicePrefix) + ": " + span.Name
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
			begins[name] = append(begins[name], inMilliseconds(span.Start.Sub(spans[0].Start)))
			takes[name] = append(takes[name], inMilliseconds(span.Duration))
		}
	}
	for _, name := range names {
		b.report.add("warm task, "+name+", begins after", "ms", "", begins[name]...)
		b.report.add("warm task, "+name+", takes", "ms", "", takes[name]...)
	}
	b.report.add("spans per task", "1", "", float64(count))
	return nil
}
