package runspan

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/bridge/memory"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Sequences knows the sequences of tasks, as api.Client does.
type Sequences interface {
	keptn.Counter
	// SequenceEndedAt returns when the sequence of a task ended.
	SequenceEndedAt(ctx context.Context, task keptn.Task) (time.Time, error)
	// RepositoryURL returns the URL of a project's Git repository, if any.
	RepositoryURL(ctx context.Context, project string) (string, error)
}

// Counter returns a counter from which the writer also learns the sequences of tasks. So Keptn gets no further
// requests about sequences whose last task is ours.
func (w *Writer) Counter() keptn.Counter { return counter{w.Keptn, &w.known} }

type counter struct {
	keptn.Counter

	known *sequences
}

// Count implements keptn.Counter.
func (c counter) Count(ctx context.Context, task keptn.Task) (keptn.Count, error) {
	count, err := c.Counter.Count(ctx, task)
	if err == nil {
		c.known.learn(task, count)
	}
	return count, err
}

const (
	// flushInterval is how often ended sequences are written.
	flushInterval = time.Second
	// firstQuestion and lastQuestion bound the pause before Keptn is asked whether a sequence without a running
	// task of ours has ended. The pause doubles.
	firstQuestion = 10 * time.Second
	lastQuestion  = 5 * time.Minute
	// maxSequenceAge is when a sequence is written although Keptn does not report its end.
	maxSequenceAge = 24 * time.Hour
	// repositoryAge is how long the URL of a repository is remembered.
	repositoryAge = time.Hour
	// maxQuestions bounds the questions at a time.
	maxQuestions = 10
	// maxSequences bounds the sequences that wait for their end. Beyond it, tasks are roots.
	maxSequences = 10000
)

// Run writes the spans of sequences that have ended, until the context ends. The error is always nil.
func (w *Writer) Run(ctx context.Context) error {
	ticker := time.NewTicker(flushInterval)
	defer ticker.Stop()
	for {
		w.writeEnded(ctx)
		select {
		case <-ctx.Done():
			w.writeEnded(context.WithoutCancel(ctx))
			return nil
		case <-ticker.C:
		}
		w.ask(ctx)
	}
}

// ask asks Keptn about the sequences whose time has come.
func (w *Writer) ask(ctx context.Context) {
	for _, due := range w.known.due(w.Now()) {
		count, err := w.Counter().Count(ctx, due.task)
		if err != nil {
			w.known.retry(due.sequence.ID, w.Now())
			continue
		}
		result := count.Sequence.Result
		if count.Sequence.ID == "" && count.Over() {
			result = keptn.RunCancellation // the project was deleted
		}
		if result == "" {
			continue
		}
		ended, err := w.Keptn.SequenceEndedAt(ctx, due.task)
		if err != nil {
			ended = w.Now()
		}
		w.known.end(due.sequence.ID, result, ended)
	}
}

// writeEnded writes the span of each ended sequence.
func (w *Writer) writeEnded(ctx context.Context) {
	for _, ended := range w.known.removeEnded(w.Now()) {
		task, sequence := ended.task, ended.sequence
		attributes := append(telemetry.SequenceAttributes(task), semconv.CICDPipelineActionNameRun, attribute.String("keptn.sequence", sequence.Name))
		if repository := w.repositoryOf(ctx, task.Project); repository != "" {
			attributes = append(attributes, semconv.VCSRepositoryURLFull(repository))
		}
		if sequence.Result != "" {
			attributes = append(attributes, semconv.CICDPipelineResultKey.String(string(sequence.Result)))
		}
		options := []trace.SpanStartOption{
			trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(beginning(ended.began, ended.at)), trace.WithAttributes(attributes...),
		}
		if sequence.Previous != "" {
			previous := telemetry.WithParent(ctx, telemetry.TraceID(task.Context), telemetry.SpanID(sequence.Previous))
			options = append(options, trace.WithLinks(trace.LinkFromContext(previous)))
		}
		_, span := telemetry.Start(ctx, w.Tracer, telemetry.TraceID(task.Context), telemetry.SpanID(sequence.ID), titleOf(task, sequence.Name, sequence.Result), options...)
		fail(span, sequence.Result, ended.reason())
		span.End(trace.WithTimestamp(ended.at))
	}
}

// repository is the URL of a project's repository, and when Keptn was asked for it.
type repository struct {
	url string
	at  time.Time
}

// repositoryOf returns the URL of a project's repository, empty if it is unknown. It asks Keptn once per
// repositoryAge.
func (w *Writer) repositoryOf(ctx context.Context, project string) string {
	known := w.repositories.Of(project)
	if w.Now().Sub(known.at) > repositoryAge {
		address, err := w.Keptn.RepositoryURL(ctx, project)
		if err != nil {
			address = known.url // the span lacks it, or has an old one
		}
		*known = repository{address, w.Now()}
	}
	return known.url
}

// sequenceOf returns the sequence of a task, without an ID if it is unknown. It asks Keptn about tasks that nobody
// counted, such as those of silent actions.
func (w *Writer) sequenceOf(ctx context.Context, task keptn.Task) keptn.Sequence {
	if w.Keptn == nil || task.Observed {
		return keptn.Sequence{}
	}
	sequence, ok := w.known.of(task)
	if !ok {
		if count, err := w.Counter().Count(ctx, task); err == nil {
			sequence = count.Sequence
		}
	}
	if w.known.isFull(sequence) {
		return keptn.Sequence{}
	}
	return sequence
}

// sequences are the sequences of tasks. The zero value is ready, and safe for concurrent use.
type sequences struct {
	mutex sync.Mutex
	// byTask has the sequence of each task.
	byTask memory.Recent[keptn.Sequence]
	// open are the sequences that are not written yet, but have a written child. The others are in written.
	open    map[string]*openSequence
	written memory.Recent[bool]
}

type openSequence struct {
	sequence keptn.Sequence
	// task is the last task of ours that ended.
	task keptn.Task
	// began and at are the beginning and the end of the sequence.
	began, at time.Time
	// failure is the message of a failed task of ours.
	failure string
	// nextQuestion is when Keptn is asked whether the sequence has ended; zero while a task of ours runs.
	nextQuestion time.Time
	pause        time.Duration
}

// reason returns why the sequence failed.
func (o *openSequence) reason() string {
	switch {
	case o.failure != "":
		return o.failure
	case o.sequence.FailedTask != "":
		return fmt.Sprintf("Task %s failed.", o.sequence.FailedTask)
	default:
		return "The sequence timed out."
	}
}

// child is an ended task.
type child struct {
	task    keptn.Task
	ended   time.Time
	result  keptn.RunResult
	message string
}

func (s *sequences) learn(task keptn.Task, count keptn.Count) {
	if count.Sequence.ID == "" {
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	*s.byTask.Of(task.TriggeredID) = count.Sequence
	if known := s.open[count.Sequence.ID]; known != nil {
		known.sequence = count.Sequence
		// A task that was written and is not over, such as that of a silent action, is left to others.
		if !count.Over() && task.TriggeredID != known.task.TriggeredID {
			known.nextQuestion = time.Time{}
		}
	}
}

func (s *sequences) of(task keptn.Task) (keptn.Sequence, bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	sequence := *s.byTask.Of(task.TriggeredID)
	return sequence, sequence.ID != ""
}

// isFull reports whether a sequence cannot be remembered until it ends.
func (s *sequences) isFull(sequence keptn.Sequence) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return len(s.open) >= maxSequences && s.open[sequence.ID] == nil
}

// addChild records that a task of a sequence was written, so that the sequence will be.
func (s *sequences) addChild(sequence keptn.Sequence, of child) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if sequence.ID == "" || *s.written.Of(sequence.ID) {
		return
	}
	known := s.open[sequence.ID]
	if known == nil {
		if s.open == nil {
			s.open = map[string]*openSequence{}
		}
		known = &openSequence{sequence: sequence, began: cmp.Or(sequence.TriggeredAt, of.task.TriggeredAt)}
		s.open[sequence.ID] = known
	}
	known.task, known.pause, known.nextQuestion = of.task, firstQuestion, of.ended.Add(firstQuestion)
	if of.ended.After(known.at) {
		known.at = of.ended
	}
	if of.result.IsFailed() {
		known.failure = of.message
	}
}

// due returns sequences that Keptn must be asked about now, those that wait longest, and schedules their next
// question.
func (s *sequences) due(now time.Time) []openSequence {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var waiting []*openSequence
	for _, known := range s.open {
		if !known.nextQuestion.IsZero() && !now.Before(known.nextQuestion) {
			waiting = append(waiting, known)
		}
	}
	slices.SortFunc(waiting, func(one, other *openSequence) int { return one.nextQuestion.Compare(other.nextQuestion) })
	var due []openSequence
	for _, known := range waiting[:min(len(waiting), maxQuestions)] {
		known.pause = min(2*known.pause, lastQuestion)
		known.nextQuestion = now.Add(known.pause)
		due = append(due, *known)
	}
	return due
}

// retry schedules the first question again, after a failed one.
func (s *sequences) retry(id string, now time.Time) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if known := s.open[id]; known != nil && !known.nextQuestion.IsZero() {
		known.pause, known.nextQuestion = firstQuestion, now.Add(firstQuestion)
	}
}

// end records how and when a sequence ended.
func (s *sequences) end(id string, result keptn.RunResult, at time.Time) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	known := s.open[id]
	if known == nil {
		return
	}
	known.sequence.Result = result
	if at.After(known.at) {
		known.at = at
	}
}

// removeEnded removes and returns the sequences that have ended, in the order of their beginning.
func (s *sequences) removeEnded(now time.Time) []*openSequence {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var ended []*openSequence
	for id, known := range s.open {
		if known.sequence.Result == "" && now.Sub(known.at) < maxSequenceAge {
			continue
		}
		delete(s.open, id)
		*s.written.Of(id) = true
		ended = append(ended, known)
	}
	slices.SortFunc(ended, func(one, other *openSequence) int { return one.began.Compare(other.began) })
	return ended
}
