package simulation

import (
	"context"
	"sync"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/telemetry"
)

// spans are the written spans of all processes.
type spans struct {
	mutex sync.Mutex
	// written has the processes that wrote each span.
	written map[spanKey][]*process
	names   map[spanKey]string
	parents map[spanKey]spanKey
}

type spanKey struct {
	trace trace.TraceID
	span  trace.SpanID
}

// exporter passes on the spans of one process until the process dies.
type exporter struct {
	process *process
}

// OnStart implements sdktrace.SpanProcessor.
func (exporter) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor.
func (e exporter) OnEnd(span sdktrace.ReadOnlySpan) {
	if e.process.dead() {
		return
	}
	all := &e.process.world.spans
	key := spanKey{span.SpanContext().TraceID(), span.SpanContext().SpanID()}
	all.mutex.Lock()
	defer all.mutex.Unlock()
	if all.written == nil {
		all.written, all.names, all.parents = map[spanKey][]*process{}, map[spanKey]string{}, map[spanKey]spanKey{}
	}
	all.written[key] = append(all.written[key], e.process)
	all.names[key] = span.Name()
	if span.Parent().IsValid() {
		all.parents[key] = spanKey{key.trace, span.Parent().SpanID()}
	}
}

// Shutdown implements sdktrace.SpanProcessor.
func (exporter) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (exporter) ForceFlush(context.Context) error { return nil }

// tracers returns the tracers of a process.
func tracers(p *process) trace.TracerProvider {
	return sdktrace.NewTracerProvider(sdktrace.WithIDGenerator(telemetry.IDGenerator{}), sdktrace.WithSpanProcessor(exporter{p}))
}

// judgeSpans checks that no process wrote a span twice, and that no parent is missing. Only the successor of a
// process that died may write a span again, and only a process that died may leave a span out.
func (w *world) judgeSpans() {
	w.spans.mutex.Lock()
	defer w.spans.mutex.Unlock()
	w.mutex.Lock()
	died := w.deaths
	// Nobody hears of a lost triggered event if its sequence is aborted before the bridge resends it.
	unheard := map[trace.TraceID]bool{}
	for keptnContext := range w.aborted {
		unheard[telemetry.TraceID(keptnContext)] = w.asynchronous
	}
	w.mutex.Unlock()
	twice, orphans := 0, 0
	for key, processes := range w.spans.written {
		writers := map[*process]bool{}
		for _, process := range processes {
			if writers[process] {
				w.violate("%s wrote span %s of trace %s twice", process.name, w.spans.names[key], key.trace)
			}
			writers[process] = true
		}
		if len(writers) > 1 {
			twice++
		}
	}
	for key, parent := range w.spans.parents {
		if len(w.spans.written[parent]) > 0 {
			continue
		}
		orphans++
		if died == 0 && !unheard[key.trace] {
			w.violate("the parent of span %s of trace %s is missing, though no process died", w.spans.names[key], key.trace)
		}
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.happened["a span was written"] += len(w.spans.written)
	w.happened["a span was written again after a death"] += twice
	w.happened["a span lacks its parent after a death"] += orphans
}
