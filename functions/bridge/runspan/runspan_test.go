package runspan

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/test/fixture"
)

// keptnOf answers with a count for each task.
type keptnOf struct {
	counts map[string]keptn.Count
	// ended is when sequences ended; zero if Keptn does not know.
	ended               time.Time
	asked, repositories int
}

func (k *keptnOf) Count(_ context.Context, task keptn.Task) (keptn.Count, error) {
	k.asked++
	count, ok := k.counts[task.TriggeredID]
	if !ok {
		return keptn.Count{}, fixture.ErrDown
	}
	return count, nil
}

func (k *keptnOf) SequenceEndedAt(context.Context, keptn.Task) (time.Time, error) {
	if k.ended.IsZero() {
		return time.Time{}, fixture.ErrDown
	}
	return k.ended, nil
}

func (k *keptnOf) RepositoryURL(context.Context, string) (string, error) {
	k.repositories++
	return "https://git.example.com/shop.git", nil
}

// recorded returns a Writer with a stopped clock, and a recorder of spans.
func recorded(asked Sequences) (*Writer, *tracetest.SpanRecorder) {
	recorder := tracetest.NewSpanRecorder()
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder), sdktrace.WithIDGenerator(telemetry.IDGenerator{}))
	return &Writer{
		Tracer: tracers.Tracer(""), JobTracer: tracers.Tracer("jobs"), Keptn: asked,
		Ended: func(context.Context, keptn.Task, keptn.RunResult) {}, Now: func() time.Time { return fixture.Noon.Add(time.Minute) },
	}, recorder
}

// draw returns a line for each span: kind, name, id, parent, times, links, result and status.
func draw(recorder *tracetest.SpanRecorder) []string {
	var lines []string
	for _, span := range recorder.Ended() {
		line := fmt.Sprintf("%s %s %s", span.SpanKind(), span.Name(), span.SpanContext().SpanID())
		if span.Parent().IsValid() {
			line += " below " + span.Parent().SpanID().String()
		}
		line += fmt.Sprintf(", %s to %s", span.StartTime().Sub(fixture.Noon), span.EndTime().Sub(fixture.Noon))
		for _, link := range span.Links() {
			line += ", after " + link.SpanContext.SpanID().String()
		}
		for _, key := range []attribute.Key{"cicd.pipeline.task.run.result", "cicd.pipeline.result"} {
			attributes := attribute.NewSet(span.Attributes()...)
			if value, ok := attributes.Value(key); ok {
				line += " = " + value.AsString()
			}
		}
		if span.Status().Description != "" {
			line += " ! " + span.Status().Description
		}
		lines = append(lines, line)
	}
	return lines
}

func compare(t *testing.T, want []string, recorder *tracetest.SpanRecorder) {
	t.Helper()
	if difference := cmp.Diff(want, draw(recorder)); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

func TestATaskWithoutASequenceIsARootThatIsWrittenOnce(t *testing.T) {
	const of = "internal RUN p/s/v test 6b86b273ff34fce1, 0s to 1m0s, after b7ad6b7169203331"
	for result, want := range map[keptn.RunResult]string{
		keptn.RunSuccess: of + " = success", keptn.RunSkip: of + " = skip", "": of,
		keptn.RunCancellation: "internal RUN p/s/v test (aborted) 6b86b273ff34fce1, 0s to 1m0s, after b7ad6b7169203331 = cancellation",
		keptn.RunFailure:      of + " = failure ! it broke\n- here", keptn.RunError: of + " = error ! it broke\n- here",
		keptn.RunTimeout: of + " = timeout ! it broke\n- here",
	} {
		t.Run(string(result), func(t *testing.T) {
			writer, recorder := recorded(nil)
			task := fixture.Task
			task.TriggeredAt, task.Traceparent = fixture.Noon, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
			for range 2 {
				writer.Write(telemetry.WithRun(t.Context(), fixture.Task), task, result, "\nit broke\n- here\n\nLogs:\nand more\n")
			}
			compare(t, []string{want}, recorder)
		})
	}
}

func TestSpanOfATaskAlwaysTakesSomeTime(t *testing.T) {
	ended := fixture.Noon.Add(time.Minute)
	for name, triggeredAt := range map[string]time.Time{
		"when it was triggered is not known": {}, "it ended at once": ended, "Keptn's clock is ahead": ended.Add(time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			writer, recorder := recorded(nil)
			task := fixture.Task
			task.TriggeredAt = triggeredAt
			writer.Write(telemetry.WithRun(t.Context(), task), task, keptn.RunFailure, strings.Repeat("é", maxStatusBytes))
			compare(t, []string{
				"internal RUN p/s/v test 6b86b273ff34fce1, 59.999999999s to 1m0s = failure ! " + strings.Repeat("é", maxStatusBytes/len("é")),
			}, recorder)
		})
	}
}

func TestSequenceIsTheParentOfItsTasks(t *testing.T) {
	const taskOne, taskTwo = "6b86b273ff34fce1", "d4735e3a265e16ee"
	sequenceID := telemetry.SpanID("sequence").String()
	sequence := func(result keptn.RunResult) keptn.Sequence {
		return keptn.Sequence{ID: "sequence", Name: "delivery", TriggeredAt: fixture.Noon.Add(-time.Second), Result: result}
	}
	later := sequence(keptn.RunSuccess)
	later.Previous = "earlier"
	foreign := sequence(keptn.RunFailure)
	foreign.FailedTask = "approval"
	counted := func(of keptn.Sequence) keptn.Count { return keptn.Count{Standing: keptn.Completed, Sequence: of} }
	const one, two = ", 0s to 1m0s = success", ", 30s to 1m0s = success"
	tests := []struct {
		name string
		// tasks end one after the other. Keptn's answers are those of first, and later those of after.
		tasks  []string
		result keptn.RunResult
		first  map[string]keptn.Count
		after  map[string]keptn.Count
		ended  time.Time
		// asked is how often the writer asks Keptn itself.
		asked int
		want  []string
	}{
		{
			name: "it ended with its only task", tasks: []string{"1"}, first: map[string]keptn.Count{"1": counted(sequence(keptn.RunSuccess))},
			want: []string{
				"internal test " + taskOne + " below " + sequenceID + one,
				"server RUN p/s/v delivery " + sequenceID + ", -1s to 1m0s = success",
			},
		},
		{
			name: "it has two tasks of ours", tasks: []string{"1", "2"},
			first: map[string]keptn.Count{"1": counted(sequence("")), "2": counted(sequence(keptn.RunSuccess))},
			want: []string{
				"internal test " + taskOne + " below " + sequenceID + one, "internal test " + taskTwo + " below " + sequenceID + two,
				"server RUN p/s/v delivery " + sequenceID + ", -1s to 1m0s = success",
			},
		},
		{
			name: "a task of ours failed", tasks: []string{"1"}, result: keptn.RunFailure, first: map[string]keptn.Count{"1": counted(sequence(keptn.RunFailure))},
			want: []string{
				"internal test " + taskOne + " below " + sequenceID + ", 0s to 1m0s = failure ! it broke",
				"server RUN p/s/v delivery " + sequenceID + ", -1s to 1m0s = failure ! it broke",
			},
		},
		{
			name: "a task of others failed later", tasks: []string{"1"}, asked: 1, ended: fixture.Noon.Add(90 * time.Second),
			first: map[string]keptn.Count{"1": counted(sequence(""))}, after: map[string]keptn.Count{"1": counted(foreign)},
			want: []string{
				"internal test " + taskOne + " below " + sequenceID + one,
				"server RUN p/s/v delivery " + sequenceID + ", -1s to 1m30s = failure ! Task approval failed.",
			},
		},
		{
			name: "it timed out in a task of others", tasks: []string{"1"}, asked: 1, ended: fixture.Noon.Add(90 * time.Second),
			first: map[string]keptn.Count{"1": counted(sequence(""))}, after: map[string]keptn.Count{"1": counted(sequence(keptn.RunTimeout))},
			want: []string{
				"internal test " + taskOne + " below " + sequenceID + one,
				"server RUN p/s/v delivery " + sequenceID + ", -1s to 1m30s = timeout ! The sequence timed out.",
			},
		},
		{
			name: "it was aborted", tasks: []string{"1"}, result: keptn.RunCancellation, first: map[string]keptn.Count{"1": counted(sequence(keptn.RunCancellation))},
			want: []string{
				"internal test " + taskOne + " below " + sequenceID + ", 0s to 1m0s = cancellation",
				"server RUN p/s/v delivery (aborted) " + sequenceID + ", -1s to 1m0s = cancellation",
			},
		},
		{
			name: "it follows a sequence of another stage", tasks: []string{"1"}, first: map[string]keptn.Count{"1": counted(later)},
			want: []string{
				"internal test " + taskOne + " below " + sequenceID + one,
				"server RUN p/s/v delivery " + sequenceID + ", -1s to 1m0s, after " + telemetry.SpanID("earlier").String() + " = success",
			},
		},
		{
			name: "its project is deleted", tasks: []string{"1"}, asked: 1,
			first: map[string]keptn.Count{"1": counted(sequence(""))}, after: map[string]keptn.Count{"1": {Standing: keptn.Aborted}},
			want: []string{
				"internal test " + taskOne + " below " + sequenceID + one,
				"server RUN p/s/v delivery (aborted) " + sequenceID + ", -1s to 1m11s = cancellation",
			},
		},
		{
			name: "Keptn never says that it ended", tasks: []string{"1"}, asked: 1,
			first: map[string]keptn.Count{"1": counted(sequence(""))}, after: map[string]keptn.Count{},
			want: []string{
				"internal test " + taskOne + " below " + sequenceID + one,
				"server RUN p/s/v delivery " + sequenceID + ", -1s to 1m0s",
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			asked := &keptnOf{counts: test.first, ended: test.ended}
			writer, recorder := recorded(asked)
			for index, id := range test.tasks {
				task := fixture.Task
				task.TriggeredID, task.TriggeredAt = id, fixture.Noon.Add(time.Duration(index)*30*time.Second)
				if _, err := writer.Counter().Count(t.Context(), task); err != nil { // as the reporter does
					t.Fatal(err)
				}
				result := keptn.RunSuccess
				if test.result != "" {
					result = test.result
				}
				for range 2 {
					writer.Write(t.Context(), task, result, "it broke")
				}
			}
			asked.asked = 0
			writer.ask(t.Context())
			if asked.asked > 0 {
				t.Error("Keptn is asked at once")
			}
			if test.after != nil {
				asked.counts = test.after
			}
			writer.writeEnded(t.Context())
			writer.Now = func() time.Time { return fixture.Noon.Add(time.Minute + firstQuestion + time.Second) }
			writer.ask(t.Context())
			writer.ask(t.Context()) // not due
			writer.writeEnded(t.Context())
			if asked.asked != test.asked {
				t.Errorf("Keptn was asked %d times", asked.asked)
			}
			writer.Now = func() time.Time { return fixture.Noon.Add(time.Minute + maxSequenceAge) }
			writer.writeEnded(t.Context())
			compare(t, test.want, recorder)
		})
	}
}

// While a task of ours runs, Keptn is not asked about the end of the sequence.
func TestKeptnIsNotAskedAboutASequenceWithARunningTask(t *testing.T) {
	sequence := keptn.Sequence{ID: "sequence", Name: "delivery", TriggeredAt: fixture.Noon}
	asked := &keptnOf{counts: map[string]keptn.Count{"1": {Standing: keptn.Completed, Sequence: sequence}, "2": {Standing: keptn.Current, Sequence: sequence}}}
	writer, _ := recorded(asked)
	task := fixture.Task
	writer.Write(t.Context(), task, keptn.RunSuccess, "")
	next := task
	next.TriggeredID = "2"
	if _, err := writer.Counter().Count(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	asked.asked = 0
	writer.Now = func() time.Time { return fixture.Noon.Add(time.Hour) }
	writer.ask(t.Context())
	if asked.asked != 0 {
		t.Errorf("Keptn was asked %d times", asked.asked)
	}
}

// A task without a finished event of ours is over once its sequence was aborted.
func TestKeptnIsAskedUntilASequenceOfASilentTaskEnds(t *testing.T) {
	sequence := keptn.Sequence{ID: "sequence", Name: "delivery", TriggeredAt: fixture.Noon}
	asked := &keptnOf{counts: map[string]keptn.Count{fixture.Task.TriggeredID: {Standing: keptn.Current, Sequence: sequence}}}
	writer, recorder := recorded(asked)
	writer.Write(t.Context(), fixture.Task, keptn.RunSuccess, "")
	at := fixture.Noon.Add(time.Minute)
	writer.Now = func() time.Time { return at }
	for range 3 {
		at = at.Add(time.Minute)
		writer.ask(t.Context())
	}
	sequence.Result = keptn.RunCancellation
	aborted := map[string]keptn.Count{fixture.Task.TriggeredID: {Standing: keptn.Aborted, Sequence: sequence}}
	asked.counts = map[string]keptn.Count{} // Keptn is away
	at = at.Add(lastQuestion)
	writer.ask(t.Context())
	asked.counts = aborted
	at = at.Add(firstQuestion)
	writer.ask(t.Context())
	writer.writeEnded(t.Context())
	if spans := recorder.Ended(); len(spans) != 2 || spans[1].Name() != "RUN p/s/v delivery (aborted)" {
		t.Errorf("got %v", draw(recorder))
	}
}

func TestKeptnIsAskedForARepositoryOnceAnHour(t *testing.T) {
	asked := &keptnOf{}
	writer, _ := recorded(asked)
	for _, test := range []struct {
		after time.Duration
		asked int
	}{{0, 1}, {repositoryAge, 1}, {repositoryAge + time.Second, 2}} {
		writer.Now = func() time.Time { return fixture.Noon.Add(test.after) }
		if got := writer.repositoryOf(t.Context(), "p"); got != "https://git.example.com/shop.git" || asked.repositories != test.asked {
			t.Errorf("after %s: got %s, asked %d times", test.after, got, asked.repositories)
		}
	}
}

func TestALateChildDoesNotRepeatItsSequence(t *testing.T) {
	done := keptn.Count{Standing: keptn.Completed, Sequence: keptn.Sequence{ID: "sequence", Name: "delivery", Result: keptn.RunSuccess}}
	writer, recorder := recorded(&keptnOf{counts: map[string]keptn.Count{"1": done, "2": done}})
	for _, id := range []string{"1", "2"} {
		task := fixture.Task
		task.TriggeredID = id
		writer.Write(t.Context(), task, keptn.RunSuccess, "")
		writer.writeEnded(t.Context())
	}
	names := map[string]int{}
	for _, span := range recorder.Ended() {
		names[span.Name()]++
	}
	if difference := cmp.Diff(map[string]int{"test": 2, "RUN p/s/v delivery": 1}, names); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// Tasks of sequences beyond the limit are roots: no parent is missing.
func TestSequencesAreBounded(t *testing.T) {
	counts := map[string]keptn.Count{}
	for number := range maxSequences + 1 {
		id := fmt.Sprint(number)
		counts[id] = keptn.Count{Standing: keptn.Completed, Sequence: keptn.Sequence{ID: "sequence-" + id, Name: "delivery"}}
	}
	writer, recorder := recorded(&keptnOf{counts: counts})
	for number := range maxSequences + 1 {
		task := fixture.Task
		task.TriggeredID = fmt.Sprint(number)
		writer.Write(t.Context(), task, keptn.RunSuccess, "")
	}
	roots := 0
	for _, span := range recorder.Ended() {
		if !span.Parent().IsValid() {
			roots++
		}
	}
	if roots != 1 || len(writer.known.open) != maxSequences {
		t.Errorf("%d roots", roots)
	}
	asked := map[string]bool{}
	for range 2 {
		for _, due := range writer.known.due(fixture.Noon.Add(time.Hour)) {
			asked[due.sequence.ID] = true
		}
	}
	if len(asked) != 2*maxQuestions {
		t.Errorf("%d sequences were asked about in two rounds", len(asked))
	}
}

func TestJobsAreWrittenOnceWithTheirPhases(t *testing.T) {
	at := func(second int) time.Time { return fixture.Noon.Add(time.Duration(second) * time.Second) }
	phase := func(attempt int, name string, from, to int, failure string) protocol.Phase {
		return protocol.Phase{Name: name, Attempt: attempt, Began: at(from), Ended: at(to), Failure: failure, Pod: "pod", Node: "node"}
	}
	job := protocol.Job{Namespace: "jobs", Name: "job-1", UID: "uid", Action: "Greet", Task: "greet", Result: keptn.RunSuccess, Began: at(0), Ended: at(9)}
	once, retried := job, job
	once.Phases = []protocol.Phase{phase(1, "pending", 0, 2, ""), phase(1, "run", 2, 8, ""), phase(0, "finalizing", 8, 8, "")}
	retried.Phases = []protocol.Phase{
		phase(1, "pending", 0, 1, ""), phase(1, "run", 1, 2, "it broke\n- here"), phase(0, "back-off", 2, 5, ""),
		phase(2, "pending", 5, 6, ""), phase(2, "run", 6, 8, ""),
	}
	failed := once
	failed.Result, failed.Failure = keptn.RunTimeout, "too long"
	id := func(parts ...string) string { return telemetry.SpanID(parts...).String() }
	ofJob, ofTask := id("jobs", "job-1"), id("1")
	below := func(name string, parent string, index int, times string) string {
		return "internal " + name + " " + id("uid", fmt.Sprint(index)) + " below " + parent + ", " + times
	}
	tests := []struct {
		name string
		job  protocol.Job
		want []string
	}{
		{name: "one attempt", job: once, want: []string{
			below("pending", ofJob, 0, "0s to 2s"), below("run", ofJob, 1, "2s to 8s"), below("finalizing", ofJob, 2, "8s to 8.000000001s"),
			"internal greet " + ofJob + " below " + ofTask + ", 0s to 9s = success",
		}},
		{name: "two attempts", job: retried, want: []string{
			below("pending", id("uid", "attempt 1"), 0, "0s to 1s"), below("run", id("uid", "attempt 1"), 1, "1s to 2s ! it broke\n- here"),
			"internal attempt 1 " + id("uid", "attempt 1") + " below " + ofJob + ", 0s to 2s ! it broke\n- here",
			below("back-off", ofJob, 2, "2s to 5s"),
			below("pending", id("uid", "attempt 2"), 3, "5s to 6s"), below("run", id("uid", "attempt 2"), 4, "6s to 8s"),
			"internal attempt 2 " + id("uid", "attempt 2") + " below " + ofJob + ", 5s to 8s",
			"internal greet " + ofJob + " below " + ofTask + ", 0s to 9s = success",
		}},
		{name: "a failure", job: failed, want: []string{
			below("pending", ofJob, 0, "0s to 2s"), below("run", ofJob, 1, "2s to 8s"), below("finalizing", ofJob, 2, "8s to 8.000000001s"),
			"internal greet " + ofJob + " below " + ofTask + ", 0s to 9s = timeout ! too long",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			writer, recorder := recorded(nil)
			for range 2 {
				writer.Jobs(t.Context(), fixture.Task, nil) // an answer without Jobs
				writer.Jobs(t.Context(), fixture.Task, []protocol.Job{test.job})
			}
			compare(t, test.want, recorder)
		})
	}
}
