package jobsource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/job-executor/job-executor/functions/cluster/clientset"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/run/store"
)

// ofRun returns a Job of a project's run. A queued one has waited for a number of seconds.
func ofRun(project, runID string, s state, queued int) *batchv1.Job {
	s.name = cmp.Or(s.name, runID)
	created := job(s)
	created.Labels[run.EventIDLabel] = runID
	created.Annotations[run.TaskAnnotation] = fmt.Sprintf(`{"project":%q}`, project)
	if queued > 0 {
		run.Queue(created, noon.Add(-time.Duration(queued)*time.Second))
	}
	return created
}

type admissions struct {
	*marker
	refused  string
	admitted []string
}

func (a *admissions) Admit(_ context.Context, job *batchv1.Job) error {
	if job.Name == a.refused {
		return errRefused
	}
	a.admitted = append(a.admitted, job.Name)
	return nil
}

func TestOldestQueuedRunsOfAProjectAreAdmitted(t *testing.T) {
	running, waiting, succeeded := state{phase: run.Running}, state{phase: run.Waiting}, state{phase: run.Succeeded}
	three := []*batchv1.Job{ofRun("shop", "new", waiting, 1), ofRun("shop", "old", waiting, 3), ofRun("shop", "middle", waiting, 2)}
	tests := []struct {
		name string
		most int
		jobs []*batchv1.Job
		// before were admitted already.
		before  []string
		refused string
		want    []string
		still   []string
		err     error
	}{
		{name: "up to the limit", most: 2, jobs: three, want: []string{"old", "middle"}, still: []string{"middle", "old"}},
		{name: "all, without a limit", jobs: three, want: []string{"old", "middle", "new"}, still: []string{"middle", "new", "old"}},
		{
			name:  "an active run counts",
			most:  2,
			jobs:  append([]*batchv1.Job{ofRun("shop", "a", running, 0)}, three...),
			want:  []string{"old"},
			still: []string{"old"},
		},
		{
			name: "a run with several Jobs counts once", most: 2,
			jobs: append([]*batchv1.Job{ofRun("shop", "a", running, 0), ofRun("shop", "a", state{name: "a-2", phase: run.Waiting}, 0)}, three...),
			want: []string{"old"}, still: []string{"old"},
		},
		{
			name: "a run between two Jobs counts", most: 1,
			jobs: append([]*batchv1.Job{ofRun("shop", "a", succeeded, 0), ofRun("shop", "a", state{name: "a-2", phase: run.Waiting}, 0)}, three...),
		},
		{
			name:  "an ended run does not count",
			most:  1,
			jobs:  append([]*batchv1.Job{ofRun("shop", "a", succeeded, 0)}, three...),
			want:  []string{"old"},
			still: []string{"old"},
		},
		{
			name: "a run without its first Job does not count", most: 1,
			jobs: append([]*batchv1.Job{ofRun("shop", "a", state{name: "a-2", phase: run.Waiting}, 0)}, three...), want: []string{"old"}, still: []string{"old"},
		},
		{
			name:  "a run of another project does not count",
			most:  1,
			jobs:  append([]*batchv1.Job{ofRun("bank", "a", running, 0)}, three...),
			want:  []string{"old"},
			still: []string{"old"},
		},
		{
			name:   "an admitted run counts before the watch",
			most:   2,
			jobs:   three,
			before: []string{"old"},
			want:   []string{"middle"},
			still:  []string{"middle", "old"},
		},
		{
			name:   "a started run counts as admitted",
			most:   2,
			jobs:   append([]*batchv1.Job{ofRun("shop", "a", running, 0)}, three...),
			before: []string{"a"},
			want:   []string{"old"},
			still:  []string{"old"},
		},
		{
			name: "more runs are active than the limit",
			most: 1,
			jobs: append([]*batchv1.Job{ofRun("shop", "a", running, 0), ofRun("shop", "b", running, 0)}, three...),
		},
		{
			name:    "a failing change does not block others",
			most:    2,
			jobs:    three,
			refused: "old",
			want:    []string{"middle"},
			still:   []string{"middle"},
			err:     errRefused,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := &admissions{refused: test.refused}
			source := newSource(&broker{}, a)
			source.MaxActiveRuns = test.most
			source.namespaces = map[string]*watched{"jobs": {store: indexed(t, test.jobs...)}}
			before := map[types.UID]bool{}
			for _, name := range test.before {
				before[types.UID("uid-"+name)] = true
			}
			still, err := source.admit(t.Context(), "shop", before)
			if !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			if difference := gocmp.Diff(test.want, a.admitted); difference != "" {
				t.Errorf("admitted (-want +got):\n%s", difference)
			}
			var names []string
			for uid := range still {
				names = append(names, string(uid)[len("uid-"):])
			}
			slices.Sort(names)
			if difference := gocmp.Diff(test.still, names); difference != "" {
				t.Errorf("of which the watch may not have told (-want +got):\n%s", difference)
			}
		})
	}
}

// While runs end one after the other, the next ones begin, in their order, and never too many.
func TestRunsOfAProjectBeginInTheirOrder(t *testing.T) {
	const runs, most = 6, 2
	source, client := newSource(&broker{}, nil), fake.NewClientset()
	source.Client = clientset.Of(client)
	source.MaxActiveRuns = most
	source.Marker = &store.Jobs{Client: source.Client, Namespaces: source.Namespaces, Installation: "ours"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	jobs := client.BatchV1().Jobs("jobs")
	for index := range runs {
		if _, err := jobs.Create(ctx, ofRun("shop", fmt.Sprint(index), state{phase: run.Waiting}, runs-index), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx) }()
	for ended := range runs {
		want := []string{}
		for index := ended; index < min(ended+most, runs); index++ {
			want = append(want, fmt.Sprint(index))
		}
		var running []string
		for !slices.Equal(want, running) {
			list, err := jobs.List(ctx, metav1.ListOptions{})
			if err != nil {
				t.Fatalf("%v; %v run, not %v", err, running, want)
			}
			running = nil
			for index := range list.Items {
				if run.PhaseOf(&list.Items[index]) == run.Running {
					running = append(running, list.Items[index].Name)
				}
			}
			if len(running) > most {
				t.Fatalf("%v run at a time", running)
			}
			if err := ctx.Err(); err != nil {
				t.Fatalf("%v; %v run, not %v", err, running, want)
			}
		}
		first, err := jobs.Get(ctx, want[0], metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if first.Annotations[run.QueuedAnnotation] != "" {
			t.Errorf("Job %s still says that it is queued", first.Name)
		}
		first.Status = job(state{phase: run.Succeeded}).Status
		if _, err := jobs.UpdateStatus(ctx, first, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// While a namespace may have unknown runs, the number of active ones is unknown.
func TestNothingIsAdmittedBeforeAllJobsAreKnown(t *testing.T) {
	now, synced := noon, false
	source := newSource(&broker{}, nil)
	source.Now = func() time.Time { return now }
	source.namespaces = map[string]*watched{"jobs": {synced: func() bool { return synced }, since: noon}}
	if !source.awaitsAny() {
		t.Error("what is not watched yet is not awaited")
	}
	synced = true
	if source.awaitsAny() {
		t.Error("what is watched is awaited")
	}
	synced, now = false, noon.Add(source.StartDeadline)
	if source.awaitsAny() {
		t.Error("what can't be watched is awaited for ever")
	}
}
