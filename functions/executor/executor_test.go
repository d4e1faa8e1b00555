package executor

import (
	stdcmp "cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace/noop"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/job-executor/job-executor/functions/allowlist"
	"github.com/job-executor/job-executor/functions/executor/plan"
	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/run/store"
	"github.com/job-executor/job-executor/functions/telemetry"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const triggeredID = "48b872a9-5c79-430f-bef2-3e5990627fa3"

func triggered(t *testing.T) event.Event {
	t.Helper()
	listed, err := keptn.DecodeEvent([]byte(`{"data": {"labels": {"build-id": "17"}, "project": "seed", "service": "svc", "stage": "production",
		"deployment": {"deploymentURIsLocal": ["http://svc"]}},
		"gitcommitid": "f24899eb80016f64c4e420b4d2b3806b41c945cf", "id": "` + triggeredID + `", "shkeptncontext": "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b",
		"source": "shipyard-controller", "specversion": "1.0", "time": "2026-11-23T23:13:01Z", "type": "sh.keptn.event.test.triggered"}`))
	if err != nil {
		t.Fatal(err)
	}
	return listed
}

// file is a job/config.yaml. Later is the second grant.
type file struct {
	content string
	// level is its level, by default the stage's.
	level   files.Level
	started bool
	err     error
	later   *file
}

func (f file) Configuration(context.Context, event.Event) (File, error) {
	return File{
		Content: []byte(f.content),
		Level:   stdcmp.Or(f.level, files.StageLevel),
		Grant:   files.Grant{Token: "the grant", Started: f.started},
	}, f.err
}

func (f file) Grant(context.Context, event.Event) (files.Grant, error) {
	return files.Grant{Token: "another", Started: f.later.started}, f.later.err
}

// jobs records Jobs in the order of their creation. From a given one on, creation fails. Others' Jobs occupy
// some names.
type jobs struct {
	created []batchv1.Job
	// lists counts list requests.
	lists  int
	failAt int
	err    error
	// stays is the error of every deletion.
	stays  error
	others []string
}

func (j *jobs) List(context.Context, string) ([]batchv1.Job, error) {
	j.lists++
	return j.created, nil
}

func (j *jobs) Create(_ context.Context, job *batchv1.Job) (*batchv1.Job, error) {
	if j.err != nil && len(j.created) == j.failAt {
		return nil, j.err
	}
	if slices.ContainsFunc(j.others, func(name string) bool { return strings.HasSuffix(job.Name, name) }) {
		return nil, errForbidden
	}
	for _, created := range j.created {
		if created.Name == job.Name {
			return nil, nil
		}
	}
	recorded := job.DeepCopy()
	recorded.UID = types.UID("uid of " + job.Name)
	j.created = append(j.created, *recorded)
	return recorded, nil
}

func (j *jobs) Delete(_ context.Context, job *batchv1.Job) error {
	if j.stays != nil {
		return j.stays
	}
	j.created = slices.DeleteFunc(slices.Clone(j.created), func(created batchv1.Job) bool { return created.UID == job.UID })
	return nil
}

func (j *jobs) names() []string {
	var names []string
	for _, job := range j.created {
		names = append(names, strings.TrimPrefix(job.Name, "job-"+triggeredID+"-"))
	}
	return names
}

type fakeCluster struct{}

func (fakeCluster) Secret(_ context.Context, _, name string) (*plan.Object, error) {
	switch name {
	case "credentials", "listed":
		return &plan.Object{Keys: []string{"password", "user"}, Labels: map[string]string{"for": "tasks"}}, nil
	case "others", "made-of-others":
		return &plan.Object{Keys: []string{"password", "user"}, Labels: map[string]string{"for": "others"}}, nil
	}
	return nil, nil
}

func (fakeCluster) ServiceAccount(_ context.Context, _, name string) (*plan.Object, error) {
	switch name {
	case "default-account", "others":
		return &plan.Object{}, nil
	case "deployer":
		return &plan.Object{Labels: map[string]string{"for": "tasks"}}, nil
	}
	return nil, nil
}

func (fakeCluster) RefusesPod(_ context.Context, _ string, spec *corev1.PodSpec) (string, error) {
	security := spec.Containers[0].SecurityContext
	if slices.Contains(security.Capabilities.Add, "SYS_ADMIN") || security.Privileged != nil && *security.Privileged {
		return `it violates PodSecurity "baseline:latest"`, nil
	}
	return "", nil
}

func tasksLabel() (selector allowlist.Selector) {
	_ = selector.UnmarshalText([]byte("for=tasks"))
	return selector
}

func quantity(text string) plan.Quantity { return plan.Quantity{Quantity: resource.MustParse(text)} }

func newExecutor(f file, j *jobs) *Executor {
	return &Executor{
		Files: f, Jobs: j, Cluster: fakeCluster{}, Tracer: noop.NewTracerProvider().Tracer(""),
		Configuration: Configuration{Rules: plan.Rules{
			Settings:                store.Settings{Namespaces: []string{"jobs", "others"}, Installation: "ours"},
			TerminationGraceSeconds: 5, ServiceAccount: "default-account", AllowedImages: []string{"busybox*", " docker.io/locustio/*"},
			AllowedSecrets: []string{"made*"}, AllowedServiceAccounts: []string{"made"}, AllowedLabel: tasksLabel(),
			VolumeSize: quantity("20Mi"), MaxVolumeSize: quantity("1Gi"), TemporarySize: quantity("100Mi"),
			LimitCPU: quantity("1"), LimitMemory: quantity("512Mi"), RequestCPU: quantity("50m"), RequestMemory: quantity("128Mi"),
			FetcherImage: "fetcher", BridgeURL: "http://bridge",
		}},
		Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
	}
}

const twoTasks = `apiVersion: v2
actions:
- name: First
  events: [{name: sh.keptn.event.test.triggered}]
  tasks: [{name: one, image: busybox}, {name: two, image: busybox}]
- name: Second
  events: [{name: test}]
  tasks: [{name: three, image: busybox}]
`

var manyTasks = "apiVersion: v2\nactions:\n- name: A\n  events: [{name: test}]\n  tasks:\n" + strings.Repeat("  - {name: T, image: busybox}\n", 101)

// Each sentence about a missing or disallowed object says what to do.
const (
	notToUse = `, or tasks may not use it; create it, and allow it with kubectl label %s %s --namespace jobs for=tasks`
)

func task(lines string) string {
	return "apiVersion: v2\nactions:\n- name: A\n  events: [{name: test}]\n  tasks:\n  - name: T\n    " + lines + "\n"
}

var (
	groupResource = schema.GroupResource{Group: "batch", Resource: "jobs"}
	errForbidden  = fmt.Errorf("creating: %w", apierrors.NewForbidden(groupResource, "x", errors.New("no role")))
	errServer     = fmt.Errorf("creating: %w", apierrors.NewInternalError(errors.New("etcd")))
)

// Most tasks have one Job, for which no list request is necessary.
func TestJobsAreListedOnlyWhereThereMayBeOthers(t *testing.T) {
	tests := []struct {
		name string
		file file
		// commit is the event's.
		commit string
		want   int
	}{
		{name: "one Job", file: file{content: task("image: busybox")}, commit: "f24899"},
		{name: "one Job of a file without a commit", file: file{content: task("image: busybox")}, want: 1},
		{name: "one Job of the project's file", file: file{content: task("image: busybox"), level: files.ProjectLevel}, commit: "f24899", want: 1},
		{name: "several Jobs", file: file{content: twoTasks}, commit: "f24899", want: 1},
		{name: "no Jobs for a started task", file: file{content: twoTasks, started: true}, commit: "f24899"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			received := triggered(t)
			received.SetExtension("gitcommitid", test.commit)
			j := &jobs{}
			for range 2 {
				if _, err := newExecutor(test.file, j).Handle(t.Context(), received); err != nil {
					t.Fatal(err)
				}
			}
			if j.lists != 2*test.want {
				t.Errorf("they were listed %d times in two deliveries", j.lists)
			}
		})
	}
}

// Where a project may have few active runs, jobsource decides when the first Job begins.
func TestRunIsQueuedWhereAProjectMayHaveFew(t *testing.T) {
	j := &jobs{}
	executor := newExecutor(file{content: twoTasks}, j)
	executor.Configuration.MaxActiveRuns = 3
	received := triggered(t)
	reply, err := executor.Handle(t.Context(), received)
	if err != nil {
		t.Fatal(err)
	}
	type state struct {
		Name   string
		Phase  run.Phase
		Queued time.Time
	}
	var got []state
	for _, job := range j.created {
		got = append(got, state{strings.TrimPrefix(job.Name, "job-"+triggeredID+"-"), run.PhaseOf(&job), run.QueuedAt(&job)})
	}
	want := []state{{Name: "000-002", Phase: run.Waiting}, {Name: "001-001", Phase: run.Waiting}, {"000-001", run.Waiting, received.Time()}}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("Jobs (-want +got):\n%s", difference)
	}
	if says := "It starts when fewer than 3 runs of project seed are active."; !strings.Contains(string(keptnEvent(t, reply).Data()), says) {
		t.Errorf("%q is missing in %s", says, keptnEvent(t, reply).Data())
	}
}

func TestHandle(t *testing.T) {
	tests := []struct {
		name string
		file file
		jobs jobs
		// reply is the type of the reply, and for a finished event its message.
		reply, message string
		// logged is the entry in Keptn's log.
		logged  string
		created []string
		err     error
	}{
		{
			name:    "the first Job is created last",
			file:    file{content: twoTasks},
			reply:   "started",
			message: "Task 'one' runs busybox\nTask 'two' runs busybox\nTask 'three' runs busybox\n",
			created: []string{"000-002", "001-001", "000-001"},
		},
		{
			name: "a missing file is logged in Keptn", file: file{err: files.ErrNotFound}, reply: "sh.keptn.log.error",
			message: "Nothing is run for task test: there is no job/config.yaml for service svc, nor for stage production or project seed",
		},
		{name: "a completed task needs nothing", file: file{err: files.ErrOver}},
		{
			name:  "an unmatched event is logged in Keptn",
			file:  file{content: strings.ReplaceAll(twoTasks, "test", "release")},
			reply: "sh.keptn.log.error",
			message: "Nothing is run for task test: no action of job/config.yaml matches sh.keptn.event.test.triggered: " +
				`"First" is for sh.keptn.event.release.triggered; "Second" is for release`,
		},
		{
			name:    "an invalid file without the event's type is logged in Keptn",
			file:    file{content: "apiVersion: v3"},
			reply:   "sh.keptn.log.error",
			message: "Nothing is run for task test: job/config.yaml is not valid: line 1, column 13: apiVersion v3 is not supported, use v2",
		},
		{
			name:    "silent actions run without a started event",
			file:    file{content: "apiVersion: v2\nactions: [{name: A, silent: true, events: [{name: test}], tasks: [{name: T, image: busybox}]}]"},
			created: []string{"000-001"},
		},
		{
			name:    "a mistake in a silent action is only logged in Keptn",
			file:    file{content: "apiVersion: v2\nactions: [{name: A, silent: true, events: [{name: test}], tasks: [{name: T, image: nginx}]}]"},
			reply:   "sh.keptn.log.error",
			message: `action "A", task "T" (line 2): Forbidden: Image nginx does not match configured image allowlist (ALLOWED_IMAGES: busybox*,  docker.io/locustio/*)`,
		},
		{
			name:    "an action without tasks passes",
			file:    file{content: "apiVersion: v2\nactions: [{name: A, events: [{name: test}]}]"},
			reply:   "finished",
			message: "The matching actions have no tasks.",
		},
		{
			name:  "an action without tasks passes beside a silent one that runs",
			file:  file{content: "apiVersion: v2\nactions: [{name: A, event: test}, {name: B, silent: true, event: test, image: busybox}]"},
			reply: "finished", message: "The matching actions have no tasks.", created: []string{"001-001"},
		},
		{
			name:    "an invalid file with the event's type",
			file:    file{content: "apiVersion: v3 # sh.keptn.event.test.triggered"},
			reply:   "finished",
			message: "job/config.yaml is not valid: line 1, column 13: apiVersion v3 is not supported, use v2",
		},
		{
			name:    "a mistake in a matching action",
			file:    file{content: twoTasks + "- name: Third\n  event: test\n  img: busybox\n"},
			reply:   "finished",
			message: "job/config.yaml is not valid: line 11, column 3: actions[2].img is not a known key; did you mean image?",
		},
		{
			name:    "a mistake in another action",
			file:    file{content: twoTasks + "- name: Third\n  event: release\n  img: busybox\n"},
			reply:   "started",
			created: []string{"000-002", "001-001", "000-001"},
		},
		{
			name: "a silent action with a mistake does not block others",
			file: file{
				content: twoTasks + "- {name: Third, silent: true, event: test, img: busybox}\n- {name: Fourth, silent: true, event: test, image: nginx}\n",
			},
			reply:   "started",
			created: []string{"000-002", "001-001", "000-001"},
			logged: "job/config.yaml is not valid: line 9, column 44: actions[2].img is not a known key; did you mean image?\n" +
				"action \"Fourth\", task \"Fourth\" (line 10): Forbidden: Image nginx does not match configured image allowlist (ALLOWED_IMAGES: busybox*,  " +
				"docker.io/locustio/*)\n",
		},
		{
			name:    "a forbidden image",
			file:    file{content: task("image: nginx")},
			reply:   "finished",
			message: `action "A", task "T" (line 6): Forbidden: Image nginx does not match configured image allowlist (ALLOWED_IMAGES: busybox*,  docker.io/locustio/*)`,
		},
		{
			name:    "a privileged container",
			file:    file{content: task("image: busybox\n    securityContext: {privileged: true}")},
			reply:   "finished",
			message: `action "A", task "T" (line 6): Kubernetes would reject its pod: it violates PodSecurity "baseline:latest"`,
		},
		{
			name:    "too many tasks for one event",
			file:    file{content: manyTasks},
			reply:   "finished",
			message: "the matching actions have 101 tasks; the limit per event is 100",
		},
		{
			name: "Jobs that are too large for one event",
			file: file{content: "apiVersion: v2\nx-v: &v " + strings.Repeat("y", 100<<10) + "\nactions:\n- name: A\n  event: test\n  tasks:\n" +
				strings.Repeat("  - {name: T, image: busybox, args: [*v]}\n", 50)},
			reply:   "finished",
			message: "the Jobs of the matching actions exceed the limit of 4194304 bytes per event",
		},
		{
			name:  "a started task is not run again, even without Jobs",
			file:  file{content: twoTasks, started: true},
			reply: "started",
		},
		{
			name:    "a pod that the pod security of its namespace forbids",
			file:    file{content: task("image: busybox\n    securityContext: {capabilities: {add: [SYS_ADMIN]}}")},
			reply:   "finished",
			message: `action "A", task "T" (line 6): Kubernetes would reject its pod: it violates PodSecurity "baseline:latest"`,
		},
		{
			name:    "a forbidden namespace",
			file:    file{content: task("image: busybox\n    namespace: kube-system")},
			reply:   "finished",
			message: `action "A", task "T" (line 6): namespace "kube-system" is not allowed. Jobs may run in: jobs, others`,
		},
		{
			name:    "a missing service account",
			file:    file{content: task("image: busybox\n    serviceAccount: root")},
			reply:   "finished",
			message: `action "A", task "T" (line 6): service account root does not exist in namespace "jobs"` + fmt.Sprintf(notToUse, "serviceaccount", "root"),
		},
		{
			name:  "a missing Secret",
			file:  file{content: task("image: busybox\n    env: [{name: nothing, valueFrom: secret}]")},
			reply: "finished",
			message: `action "A", task "T" (line 6): could not add env with name nothing: Secret nothing does not exist in namespace ` +
				`"jobs"` + fmt.Sprintf(notToUse, "secret", "nothing"),
		},
		{
			name:  "a key of a missing Secret",
			file:  file{content: task("image: busybox\n    env: [{name: X, secretKeyRef: {name: nothing, key: k}}]")},
			reply: "finished",
			message: `action "A", task "T" (line 6): could not add env with name X: Secret nothing does not exist in namespace ` +
				`"jobs"` + fmt.Sprintf(notToUse, "secret", "nothing"),
		},
		{
			name:  "a forbidden Secret looks like a missing one",
			file:  file{content: task("image: busybox\n    env: [{name: others, valueFrom: secret}]")},
			reply: "finished",
			message: `action "A", task "T" (line 6): could not add env with name others: Secret others does not exist in namespace ` +
				`"jobs"` + fmt.Sprintf(notToUse, "secret", "others"),
		},
		{
			name:  "a key of a forbidden Secret",
			file:  file{content: task("image: busybox\n    env: [{name: X, secretKeyRef: {name: others, key: user}}]")},
			reply: "finished",
			message: `action "A", task "T" (line 6): could not add env with name X: Secret others does not exist in namespace ` +
				`"jobs"` + fmt.Sprintf(notToUse, "secret", "others"),
		},
		{
			name:    "a forbidden Secret for the registry",
			file:    file{content: task("image: busybox\n    imagePullSecrets: [others]")},
			reply:   "finished",
			message: `action "A", task "T" (line 6): imagePullSecrets: Secret others does not exist in namespace "jobs"` + fmt.Sprintf(notToUse, "secret", "others"),
		},
		{
			name: "a missing Secret of a later task is left to the watcher",
			file: file{
				content: "apiVersion: v2\nactions:\n- name: A\n  event: test\n  tasks: [{name: one, image: busybox}, {name: T, image: busybox, " +
					"env: [{name: X, secretKeyRef: {name: others, key: user}}, {name: Y, secretKeyRef: {name: missing, key: user}}]}]\n",
			},
			reply:   "started",
			message: "Task 'one' runs busybox\nTask 'T' runs busybox\n",
			created: []string{"000-002", "000-001"},
		},
		{
			name: "all mistakes are reported at once",
			file: file{
				content: "apiVersion: v2\nactions:\n- name: A\n  event: test\n  parallel: true\n  tasks:\n" +
					"  - {name: T, image: nginx, serviceAccount: root, env: [{name: nothing, valueFrom: secret}, {name: X, value: $.data.x, valueFrom: event}]}\n" +
					"  - {name: U, image: busybox, namespace: kube-system}\n- name: B\n  event: test\n  tasks: [{name: V, image: httpd}]\n",
			},
			reply: "finished",
			message: "job/config.yaml cannot be run for 6 reasons:\n" +
				`- action "A", task "T" (line 7): Forbidden: Image nginx does not match configured image allowlist (ALLOWED_IMAGES: busybox*,  ` +
				`docker.io/locustio/*)` + "\n" +
				`- action "A", task "T" (line 7): service account root does not exist in namespace "jobs"` + fmt.Sprintf(notToUse, "serviceaccount", "root") + "\n" +
				`- action "A", task "T" (line 7): could not add env with name nothing: Secret nothing does not exist in namespace "jobs"` +
				fmt.Sprintf(notToUse, "secret", "nothing") + "\n" +
				`- action "A", task "T" (line 7): could not add env with name X, value $.data.x of the event: unknown key x` + "\n" +
				`- action "A", task "U" (line 8): namespace "kube-system" is not allowed. Jobs may run in: jobs, others` + "\n" +
				`- action "B", task "V" (line 11): Forbidden: Image httpd does not match configured image allowlist (ALLOWED_IMAGES: busybox*,  docker.io/locustio/*)`,
		},
		{
			name:    "a listed Secret",
			file:    file{content: task("image: busybox\n    env: [{name: made-of-others, valueFrom: secret}]")},
			reply:   "started",
			message: "Task 'T' runs busybox\n",
			created: []string{"000-001"},
		},
		{
			name:  "a listed, missing Secret",
			file:  file{content: task("image: busybox\n    env: [{name: made-before, valueFrom: secret}]")},
			reply: "finished",
			message: `action "A", task "T" (line 6): could not add env with name made-before: Secret made-before does not exist in namespace ` +
				`"jobs"` + fmt.Sprintf(notToUse, "secret", "made-before"),
		},
		{
			name:    "a forbidden service account",
			file:    file{content: task("image: busybox\n    serviceAccount: others")},
			reply:   "finished",
			message: `action "A", task "T" (line 6): service account others does not exist in namespace "jobs"` + fmt.Sprintf(notToUse, "serviceaccount", "others"),
		},
		{
			name:    "a missing key of a Secret",
			file:    file{content: task("image: busybox\n    env: [{name: X, secretKeyRef: {name: credentials, key: k}}]")},
			reply:   "finished",
			message: `action "A", task "T" (line 6): could not add env with name X: Secret credentials in namespace "jobs" has no key k`,
		},
		{
			name:    "a volume above the limit",
			file:    file{content: task("image: busybox\n    volumeSize: 2Gi")},
			reply:   "finished",
			message: `action "A", task "T" (line 6): volumeSize 2Gi exceeds the limit of 1Gi (MAX_JOB_VOLUME_SIZE)`,
		},
		{
			name:    "a value missing in the event",
			file:    file{content: task("image: busybox\n    env: [{name: X, value: $.data.x, valueFrom: event}]")},
			reply:   "finished",
			message: `action "A", task "T" (line 6): could not add env with name X, value $.data.x of the event: unknown key x`,
		},
		{
			name:    "a refused Job leaves no other Job behind",
			file:    file{content: twoTasks},
			jobs:    jobs{failAt: 2, err: errForbidden},
			reply:   "finished",
			message: `Error while creating job: creating: jobs.batch "x" is forbidden: no role`,
		},
		{
			name:    "a Job of another installation stays",
			file:    file{content: twoTasks},
			jobs:    jobs{others: []string{"000-001"}},
			reply:   "finished",
			message: `Error while creating job: creating: jobs.batch "x" is forbidden: no role`,
		},
		{
			name:    "the answer waits until the created Jobs are deleted",
			file:    file{content: twoTasks},
			jobs:    jobs{failAt: 1, err: errForbidden, stays: errServer},
			created: []string{"000-002"},
			err:     errServer,
		},
		{
			name:    "a temporary failure is retried",
			file:    file{content: twoTasks},
			jobs:    jobs{failAt: 1, err: errServer},
			created: []string{"000-002"},
			err:     errServer,
		},
		{name: "an unreadable configuration is retried", file: file{err: errServer}, err: errServer},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			reply, err := newExecutor(test.file, &test.jobs).Handle(t.Context(), triggered(t))
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) || function.IsPermanent(err) {
				t.Errorf("got error %v, want %v", err, test.err)
			}
			phase, message, logged := "", "", ""
			if reply != nil {
				answer, err := protocol.ParseAnswer(*reply)
				if err != nil {
					t.Fatal(err)
				}
				logged = answer.Logged
				if phase = strings.TrimPrefix(reply.Type(), "sh.keptn.event.test."); phase != "started" || test.message != "" {
					message = answer.Outcome.Message
				}
			}
			if difference := cmp.Diff([]string{test.reply, test.message, test.logged}, []string{phase, message, logged}); difference != "" {
				t.Errorf("reply (-want +got):\n%s", difference)
			}
			if difference := cmp.Diff(test.created, test.jobs.names()); difference != "" {
				t.Errorf("Jobs in the order of creation (-want +got):\n%s", difference)
			}
		})
	}
}

func TestDeliveringAgain(t *testing.T) {
	all := []string{"000-002", "001-001", "000-001"}
	tests := []struct {
		name    string
		between func(*jobs)
		want    []string
	}{
		{name: "a complete run is unchanged", between: func(*jobs) {}, want: all},
		{name: "an interrupted run is completed", between: func(j *jobs) { j.created = j.created[:1] }, want: all},
		{name: "a Job deleted by the watcher is not recreated", between: func(j *jobs) { j.created = j.created[2:] }, want: all[2:]},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			j := &jobs{}
			executor := newExecutor(file{content: twoTasks}, j)
			first, err := executor.Handle(t.Context(), triggered(t))
			if err != nil {
				t.Fatal(err)
			}
			test.between(j)
			second, err := executor.Handle(t.Context(), triggered(t))
			if err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff(first.String(), second.String()); difference != "" {
				t.Errorf("the replies differ:\n%s", difference)
			}
			if difference := cmp.Diff(test.want, j.names()); difference != "" {
				t.Errorf("Jobs (-want +got):\n%s", difference)
			}
		})
	}
}

// A run interrupted under another version of the file starts over.
func TestRunIsOfOneVersionOfTheFile(t *testing.T) {
	j := &jobs{}
	executor := newExecutor(file{content: twoTasks}, j)
	if _, err := executor.Handle(t.Context(), triggered(t)); err != nil {
		t.Fatal(err)
	}
	hash := j.created[0].Labels[run.ConfigHashLabel]
	j.created = j.created[:2] // the first Job is not there yet
	j.created[0].Labels[run.ConfigHashLabel] = "of another version"
	if _, err := executor.Handle(t.Context(), triggered(t)); err != nil {
		t.Fatal(err)
	}
	if difference := cmp.Diff([]string{"001-001", "000-002", "000-001"}, j.names()); difference != "" {
		t.Errorf("Jobs (-want +got):\n%s", difference)
	}
	for _, job := range j.created {
		if job.Labels[run.ConfigHashLabel] != hash {
			t.Errorf("%s is of another version", job.Name)
		}
	}
}

func TestWhatTriggersNothingIsRefusedForGood(t *testing.T) {
	tests := []struct{ name, eventType string }{
		{"a sequence", "sh.keptn.event.production.pipeline.triggered"},
		{"a finished event", "sh.keptn.event.test.finished"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			other := triggered(t)
			other.SetType(test.eventType)
			if _, err := newExecutor(file{content: twoTasks}, &jobs{}).Handle(t.Context(), other); !function.IsPermanent(err) {
				t.Errorf("got %v, want a permanent error", err)
			}
		})
	}
}

// For an observed event all actions are silent, and nobody is told that none matches. Its Jobs are kept as long
// as the event may be delivered again.
func TestEventThatWasObservedRunsSilently(t *testing.T) {
	seen := triggered(t)
	seen.SetType("sh.keptn.event.test.finished")
	const action = "apiVersion: v2\nactions:\n- {name: A, event: %s, image: %s, ttlSecondsAfterFinished: 60}\n"
	tests := []struct {
		name, content string
		wrapped       event.Event
		jobs          []string
		reply         string
	}{
		{name: "it runs", content: fmt.Sprintf(action, "test.finished", "busybox"), wrapped: keptn.Observed(seen), jobs: []string{"-000-001"}},
		{name: "no action matches", content: fmt.Sprintf(action, "test.triggered", "busybox"), wrapped: keptn.Observed(seen)},
		{
			name: "a mistake is logged in Keptn", content: fmt.Sprintf(action, "test.finished", "forbidden"), wrapped: keptn.Observed(seen),
			reply: "sh.keptn.log.error: action \"A\", task \"A\" (line 3): Forbidden: Image forbidden does not match configured image allowlist " +
				"(ALLOWED_IMAGES: busybox*,  docker.io/locustio/*)",
		},
		{
			name:    "an invalid file with the event's type is logged in Keptn",
			content: "apiVersion: v2\nactions: [{event: sh.keptn.event.test.finished",
			wrapped: keptn.Observed(seen),
			reply:   "sh.keptn.log.error: job/config.yaml is not valid: ",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			recorded := &jobs{}
			reply, err := newExecutor(file{content: test.content}, recorded).Handle(t.Context(), test.wrapped)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for index := range recorded.created {
				job := &recorded.created[index]
				names = append(names, strings.TrimPrefix(job.Name, "job-"+triggeredID))
				if !run.IsSilent(job) || job.Annotations[run.TTLAnnotation] != "900" ||
					!strings.Contains(job.Annotations[run.TaskAnnotation], `"observed":true`) {
					t.Errorf("got %v", job.Annotations)
				}
			}
			if difference := cmp.Diff(test.jobs, names); difference != "" {
				t.Errorf("Jobs (-want +got):\n%s", difference)
			}
			reported := ""
			if reply != nil {
				answer, err := protocol.ParseAnswer(*reply)
				if err != nil {
					t.Fatal(err)
				}
				reported = reply.Type() + ": " + answer.Outcome.Message
			}
			if !strings.HasPrefix(reported, test.reply) || (reported == "") != (test.reply == "") {
				t.Errorf("got %q, want %q", reported, test.reply)
			}
		})
	}
	for _, other := range []event.Event{seen, keptn.Observed(triggered(t))} {
		if _, err := newExecutor(file{content: twoTasks}, &jobs{}).Handle(t.Context(), other); !function.IsPermanent(err) {
			t.Errorf("%s: got %v, want a permanent error", other.Type(), err)
		}
	}
}

// Another delivery may have begun a run after this one asked, and its Jobs may be gone.
func TestWhatHasBegunMeanwhileIsNotRunAgain(t *testing.T) {
	tests := []struct {
		name  string
		took  time.Duration
		later file
		want  []string
		err   error
	}{
		{name: "the bridge is not asked again at once", took: freshFor, later: file{err: errServer}, want: []string{"000-002", "001-001", "000-001"}},
		{name: "the task has not started", took: time.Minute, want: []string{"000-002", "001-001", "000-001"}},
		{name: "the task has started", took: time.Minute, later: file{started: true}, want: []string{"000-002", "001-001"}},
		{name: "the task is completed", took: time.Minute, later: file{err: files.ErrOver}, want: []string{"000-002", "001-001"}},
		{name: "the bridge does not answer", took: time.Minute, later: file{err: errServer}, want: []string{"000-002", "001-001"}, err: errServer},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			j, asked := &jobs{}, false
			executor := newExecutor(file{content: twoTasks, later: &test.later}, j)
			executor.Now = func() time.Time {
				if !asked {
					asked = true
					return now
				}
				return now.Add(test.took)
			}
			if _, err := executor.Handle(t.Context(), triggered(t)); !errors.Is(err, test.err) {
				t.Errorf("got %v", err)
			}
			if difference := cmp.Diff(test.want, j.names()); difference != "" {
				t.Errorf("Jobs (-want +got):\n%s", difference)
			}
		})
	}
}

// The installation, the action and the trace leave labels and annotations on each Job.
func TestJobsCarryWhatTheOthersNeed(t *testing.T) {
	const task = "apiVersion: v2\nactions: [{name: A, SILENTevents: [{name: test}], tasks: [{name: T, image: busybox, maxPollDuration: 60}]}]"
	tests := []struct {
		name        string
		silent      string
		deadline    int64
		annotations map[string]string
		seconds     int64
	}{
		{name: "a task's own limit", annotations: map[string]string{run.DeadlineAnnotation: "maxPollDuration"}, seconds: 60},
		{
			name:        "the installation's shorter limit",
			deadline:    30,
			annotations: map[string]string{run.DeadlineAnnotation: "TASK_DEADLINE_SECONDS of the installation"},
			seconds:     30,
		},
		{
			name:        "an equal limit of the installation",
			deadline:    60,
			annotations: map[string]string{run.DeadlineAnnotation: "maxPollDuration"},
			seconds:     60,
		},
		{
			name:        "a longer limit of the installation",
			deadline:    90,
			annotations: map[string]string{run.DeadlineAnnotation: "maxPollDuration"},
			seconds:     60,
		},
		{
			name:        "silent",
			silent:      "silent: true, ",
			annotations: map[string]string{run.DeadlineAnnotation: "maxPollDuration", run.SilentAnnotation: "true"},
			seconds:     60,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			j := &jobs{}
			executor := newExecutor(file{content: strings.Replace(task, "SILENT", test.silent, 1)}, j)
			executor.Configuration.TaskDeadlineSeconds = test.deadline
			if _, err := executor.Handle(t.Context(), triggered(t)); err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, name := range []string{run.DeadlineAnnotation, run.SilentAnnotation} {
				if value, ok := j.created[0].Annotations[name]; ok {
					got[name] = value
				}
			}
			if difference := cmp.Diff(test.annotations, got); difference != "" {
				t.Errorf("annotations (-want +got):\n%s", difference)
			}
			if seconds := *j.created[0].Spec.Template.Spec.ActiveDeadlineSeconds; seconds != test.seconds {
				t.Errorf("it may take %d seconds", seconds)
			}
		})
	}
}

// The whole Job, so that every field of job/config.yaml is seen in its place.
func TestJobHasAllThatTheTaskWants(t *testing.T) {
	content := task(`image: docker.io/locustio/locust
    imagePullPolicy: Always
    cmd: [locust]
    args: [-f, /keptn/basic.py]
    workingDir: /work
    files: [basic.py]
    namespace: others
    maxPollDuration: 60
    ttlSecondsAfterFinished: 5
    serviceAccount: deployer
    annotations: {example.com/team: shop}
    resources: {limits: {cpu: 2}}
    securityContext: {runAsUser: 7, capabilities: {add: [NET_ADMIN]}, readOnlyRootFilesystem: false}
    env:
    - {name: HOST, value: "$.data.deployment.deploymentURIsLocal[0]", valueFrom: event}
    - {name: credentials, valueFrom: secret}
    - {name: PLAIN, value: text, valueFrom: string}`)
	j := &jobs{}
	if _, err := newExecutor(file{content: content}, j).Handle(t.Context(), triggered(t)); err != nil {
		t.Fatal(err)
	}
	if len(j.created) != 1 {
		t.Fatalf("there are %d Jobs", len(j.created))
	}
	got := j.created[0]
	labels := map[string]string{
		run.ManagedByLabel: "job-executor", run.InstanceLabel: "ours", run.ContextLabel: "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b", run.EventIDLabel: triggeredID,
		run.CommitIDLabel: "f24899eb80016f64c4e420b4d2b3806b41c945cf", run.ActionLabel: "A", run.TaskLabel: "T",
		run.ConfigHashLabel: got.Labels[run.ConfigHashLabel], run.ActionIndexLabel: "0", run.TaskIndexLabel: "0",
		run.ProjectLabel: "seed", run.StageLabel: "production", run.ServiceLabel: "svc",
	}
	fromSecret := func(key string) corev1.EnvVar {
		return corev1.EnvVar{Name: key, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "credentials"}, Key: key,
		}}}
	}
	defaultContext := func() *corev1.SecurityContext {
		return &corev1.SecurityContext{
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}, RunAsUser: new(int64(1000)), RunAsGroup: new(int64(2000)),
			RunAsNonRoot: new(true), ReadOnlyRootFilesystem: new(true), AllowPrivilegeEscalation: new(false),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}
	}
	taskContext := defaultContext()
	taskContext.RunAsUser, taskContext.ReadOnlyRootFilesystem = new(int64(7)), new(false)
	taskContext.Capabilities = &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}}
	mounts := []corev1.VolumeMount{{Name: "keptn-files", MountPath: "/keptn"}}
	want := batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "others", Name: "job-" + triggeredID + "-000-001", Labels: labels,
			Annotations: map[string]string{
				"example.com/team":    "shop",
				run.VersionAnnotation: "1",
				run.TaskAnnotation: `{"triggeredID":"` + triggeredID + `","name":"test","context":"4ed578f6-1e1e-4a11-9b2e-9a7111760f5b",` +
					`"gitCommitID":"f24899eb80016f64c4e420b4d2b3806b41c945cf","project":"seed","stage":"production","service":"svc",` +
					`"labels":{"build-id":"17"},"triggeredAt":"2026-11-23T23:13:01Z"}`,
				run.PlanAnnotation:       `[{"namespace":"others","first":1,"tasks":["T"]}]`,
				run.DeadlineAnnotation:   "maxPollDuration",
				run.ActionNameAnnotation: "A", run.TaskNameAnnotation: "T", run.TTLAnnotation: "60",
				run.CreatedAnnotation: "2026-11-24T12:00:00Z",
			},
		},
		Spec: batchv1.JobSpec{
			BackoffLimit: new(int32(0)), Suspend: new(false), ActiveDeadlineSeconds: new(int64(660)),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{"example.com/team": "shop"}},
				Spec: corev1.PodSpec{
					RestartPolicy:                 corev1.RestartPolicyNever,
					ActiveDeadlineSeconds:         new(int64(60)),
					ServiceAccountName:            "deployer",
					EnableServiceLinks:            new(false),
					TerminationGracePeriodSeconds: new(int64(5)),
					SecurityContext: &corev1.PodSecurityContext{
						FSGroup:        new(int64(2000)),
						SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
					},
					Volumes: []corev1.Volume{
						{
							Name:         "keptn-files",
							VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse("20Mi"))}},
						},
						{
							Name: "bridge-token",
							VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
								ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
									Audience: "job-executor-bridge", ExpirationSeconds: new(int64(3600)), Path: "token",
								},
							}}}},
						},
					},
					InitContainers: []corev1.Container{{
						Name: "fetch-files", Image: "fetcher", SecurityContext: defaultContext(),
						VolumeMounts: append(slices.Clone(mounts), corev1.VolumeMount{
							Name: "bridge-token", MountPath: "/var/run/secrets/bridge", ReadOnly: true,
						}),
						Env: []corev1.EnvVar{
							{
								Name:  "FILES",
								Value: `["basic.py"]`,
							},
							{Name: "TARGET", Value: "/keptn"},
							{Name: "BRIDGE_URL", Value: "http://bridge"},
							{Name: "GRANT", Value: "the grant"},
							{Name: "BRIDGE_TOKEN_FILE", Value: "/var/run/secrets/bridge/token"},
							{Name: "TIMEOUT", Value: "1m0s"},
						},
						Resources: corev1.ResourceRequirements{
							Limits: corev1.ResourceList{
								corev1.ResourceCPU:    resource.MustParse("1"),
								corev1.ResourceMemory: resource.MustParse("512Mi"),
							},
							Requests: corev1.ResourceList{
								corev1.ResourceCPU:    resource.MustParse("50m"),
								corev1.ResourceMemory: resource.MustParse("128Mi"),
							},
						},
					}},
					Containers: []corev1.Container{
						{
							Name:            "task",
							Image:           "docker.io/locustio/locust",
							ImagePullPolicy: corev1.PullAlways,
							Command:         []string{"locust"},
							Args:            []string{"-f", "/keptn/basic.py"},
							WorkingDir:      "/work",
							VolumeMounts:    mounts,
							SecurityContext: taskContext,
							Resources: corev1.ResourceRequirements{
								Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")},
								Requests: corev1.ResourceList{},
							},
							Env: []corev1.EnvVar{
								{Name: "HOST", Value: "http://svc"}, fromSecret("password"), fromSecret("user"), {Name: "PLAIN", Value: "text"},
								{
									Name:  "KEPTN_PROJECT",
									Value: "seed",
								}, {Name: "KEPTN_STAGE", Value: "production"}, {Name: "KEPTN_SERVICE", Value: "svc"},
								{Name: "LABELS_BUILD_ID", Value: "17"},
							},
						},
					},
				},
			},
		},
	}
	got.UID = "" // Kubernetes' part
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// These keys are extensions of the job-executor-service's format.
func TestJobHasWhatIsOurs(t *testing.T) {
	const extended = `apiVersion: v2
actions:
- name: A
  event: test
  image: busybox
  labels: {team: shop, keeps: its}
  imagePullSecrets: [listed]
  nodeSelector: {disk: ssd}
  tolerations: [{key: gpu, operator: Exists}]
  affinity: {nodeAffinity: {}}
  volumeSize: 1Gi
  retries: 2
  maxPollDuration: 60
  volumes: [{claim: data, mountPath: /data, subPath: a}, {claim: data, mountPath: /all, readOnly: true}]
  env: [{name: A, secretKeyRef: {name: credentials, key: user}}, {name: B, configMapKeyRef: {name: c, key: k}}]
`
	recorded := &jobs{}
	executor := newExecutor(file{content: extended}, recorded)
	executor.Configuration.JobLabels = map[string]string{"cost": "7", "keeps": "not its own", run.ManagedByLabel: "somebody"}
	if _, err := executor.Handle(t.Context(), triggered(t)); err != nil {
		t.Fatal(err)
	}
	if len(recorded.created) != 1 {
		t.Fatalf("there are %d Jobs", len(recorded.created))
	}
	template := recorded.created[0].Spec.Template
	policy := &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
		Action:          batchv1.PodFailurePolicyActionIgnore,
		OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
	}}}
	jobSpec := recorded.created[0].Spec
	if difference := cmp.Diff(policy, jobSpec.PodFailurePolicy); difference != "" || *jobSpec.BackoffLimit != 2 ||
		*jobSpec.PodReplacementPolicy != batchv1.Failed ||
		*jobSpec.ActiveDeadlineSeconds != 3*660 {
		t.Errorf("it fails after %d, is over after %d s; (-want +got):\n%s", *jobSpec.BackoffLimit, *jobSpec.ActiveDeadlineSeconds, difference)
	}
	for name, want := range map[string]string{"team": "shop", "keeps": "its", "cost": "7", run.ManagedByLabel: run.ManagedBy} {
		if job, pod := recorded.created[0].Labels[name], template.Labels[name]; job != want || pod != want {
			t.Errorf("label %s is %q and %q, want %q", name, job, pod, want)
		}
	}
	want := corev1.PodSpec{
		ImagePullSecrets: []corev1.LocalObjectReference{{Name: "listed"}}, NodeSelector: map[string]string{"disk": "ssd"},
		Tolerations: []corev1.Toleration{
			{Key: "gpu", Operator: corev1.TolerationOpExists},
		}, Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}},
		Volumes: []corev1.Volume{
			{
				Name:         "keptn-files", // as large as it may be
				VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse("1Gi"))}},
			},
			{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse("100Mi"))}}},
			{Name: "claim-0", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
		},
		Containers: []corev1.Container{{
			VolumeMounts: []corev1.VolumeMount{
				{
					Name:      "keptn-files",
					MountPath: "/keptn",
				},
				{Name: "tmp", MountPath: "/tmp"},
				{Name: "claim-0", MountPath: "/data", SubPath: "a"},
				{Name: "claim-0", MountPath: "/all", ReadOnly: true},
			},
			Env: []corev1.EnvVar{
				{Name: "HOME", Value: "/tmp"},
				{Name: "A", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
					LocalObjectReference: corev1.LocalObjectReference{Name: "credentials"}, Key: "user",
				}}},
				{Name: "B", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
					LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, Key: "k",
				}}},
			},
		}},
	}
	spec := template.Spec
	got := corev1.PodSpec{
		ImagePullSecrets: spec.ImagePullSecrets, NodeSelector: spec.NodeSelector, Tolerations: spec.Tolerations, Affinity: spec.Affinity, Volumes: spec.Volumes,
		Containers: []corev1.Container{{VolumeMounts: spec.Containers[0].VolumeMounts, Env: spec.Containers[0].Env[:3]}},
	}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// A task cannot set the labels and annotations that identify Jobs. jobconfig, which does not know Jobs, rejects
// all of them.
func TestNoTaskSetsWhatJobsAreKeptAccountOfBy(t *testing.T) {
	recorded := &jobs{}
	if _, err := newExecutor(file{content: task("image: busybox")}, recorded).Handle(t.Context(), triggered(t)); err != nil {
		t.Fatal(err)
	}
	job := recorded.created[0]
	for kind, ours := range map[string]map[string]string{"labels": job.Labels, "annotations": job.Annotations} {
		for name := range ours {
			mistakes := jobconfig.Parse([]byte(task("image: busybox\n    " + kind + ": {" + name + ": x}"))).All()
			if len(mistakes) != 1 || !strings.Contains(mistakes[0].Text, "is reserved") {
				t.Errorf("%s of %s: %v", name, kind, mistakes)
			}
		}
	}
}

// An earlier task may create the objects that a later one references.
func TestLaterTasksMayNameWhatIsNotThereYet(t *testing.T) {
	recorded := &jobs{}
	const content = `apiVersion: v2
actions:
- name: A
  event: test
  tasks:
  - {name: first, image: busybox}
  - {name: second, image: busybox, serviceAccount: made, env: [{name: made-before, valueFrom: secret}, {name: X, secretKeyRef: {name: made, key: k}}]}
`
	reply, err := newExecutor(file{content: content}, recorded).Handle(t.Context(), triggered(t))
	if err != nil || len(recorded.created) != 2 {
		t.Fatalf("got %v, %v", reply, err)
	}
	spec := recorded.created[0].Spec.Template.Spec // the first is created last
	want := []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "made-before"}}}}
	if difference := cmp.Diff(want, spec.Containers[0].EnvFrom); difference != "" || spec.ServiceAccountName != "made" {
		t.Errorf("account %s, (-want +got):\n%s", spec.ServiceAccountName, difference)
	}
}

// The Jobs of a parallel action are created like others, and the plan says that they run concurrently. In the
// first action, no task before them can create objects.
func TestTasksOfAParallelActionRunAtTheSameTime(t *testing.T) {
	const content = `apiVersion: v2
actions:
- name: A
  event: test
  parallel: true
  tasks: [{name: first, image: busybox}, {name: second, image: busybox%s}]
- name: B
  event: test
  parallel: true
  tasks: [{name: third, image: busybox, serviceAccount: made}]
`
	recorded := &jobs{}
	reply, err := newExecutor(file{content: fmt.Sprintf(content, "")}, recorded).Handle(t.Context(), triggered(t))
	if err != nil || len(recorded.created) != 3 {
		t.Fatalf("got %v, %v", reply, err)
	}
	name := func(suffix string) string { return "job-" + triggeredID + suffix }
	want := []run.Planned{
		{Namespace: "jobs", Name: name("-000-001"), Task: "first", Parallel: true},
		{Namespace: "jobs", Name: name("-000-002"), Task: "second", Parallel: true},
		{Namespace: "jobs", Name: name("-001-001"), Task: "third", Action: 1, Parallel: true},
	}
	for index, created := range recorded.created {
		isFirst := index == len(recorded.created)-1
		if difference := cmp.Diff(want, run.PlanOf(&created)); difference != "" || *created.Spec.Suspend == isFirst {
			t.Errorf("%s is suspended: %v, its plan (-want +got):\n%s", created.Name, *created.Spec.Suspend, difference)
		}
	}
	recorded = &jobs{}
	reply, err = newExecutor(file{content: fmt.Sprintf(content, ", serviceAccount: made")}, recorded).Handle(t.Context(), triggered(t))
	if err != nil || len(recorded.created) > 0 || reply == nil || !strings.Contains(string(keptnEvent(t, reply).Data()), `service account made does not exist`) {
		t.Errorf("got %v, %v", reply, err)
	}
}

// Programs in a container get OpenTelemetry's variables for the trace and its endpoint, unless the task sets
// them. Without a trace they get none.
func TestContainersKnowTheTrace(t *testing.T) {
	const content = `apiVersion: v2
actions:
- {name: Load test, event: test, image: busybox, files: [a], env: [{name: OTEL_SERVICE_NAME, valueFrom: string, value: mine}]}
`
	recorded := &jobs{}
	executor := newExecutor(file{content: content}, recorded)
	executor.Configuration.TaskOTLPEndpoint = "http://collector:4318/"
	ctx, span := sdktrace.NewTracerProvider().Tracer("").Start(t.Context(), "process")
	defer span.End()
	if _, err := executor.Handle(ctx, triggered(t)); err != nil || len(recorded.created) != 1 {
		t.Fatal(err)
	}
	spec, name := recorded.created[0].Spec.Template.Spec, recorded.created[0].Name
	last := func(variables []corev1.EnvVar) map[string]string {
		values := map[string]string{}
		for _, variable := range variables {
			if strings.HasPrefix(variable.Name, "OTEL_") || strings.HasPrefix(variable.Name, "TRACE") || variable.Name == "BAGGAGE" {
				values[variable.Name] = variable.Value
			}
		}
		return values
	}
	const members = "keptn.context=4ed578f6-1e1e-4a11-9b2e-9a7111760f5b,keptn.project=seed,keptn.stage=production,keptn.service=svc,keptn.task=test"
	want := map[string]string{
		"TRACEPARENT": "00-4ed578f61e1e4a119b2e9a7111760f5b-" + telemetry.JobSpanID("jobs", name).String() + "-01", "TRACESTATE": "", "BAGGAGE": members,
		"OTEL_SERVICE_NAME": "mine", "OTEL_RESOURCE_ATTRIBUTES": members + ",host.name=job-executor,ip=job-executor,k8s.namespace.name=jobs,k8s.job.name=" + name,
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/",
	}
	if difference := cmp.Diff(want, last(spec.Containers[0].Env)); difference != "" {
		t.Errorf("the task's (-want +got):\n%s", difference)
	}
	want = map[string]string{
		"TRACEPARENT":                        "00-4ed578f61e1e4a119b2e9a7111760f5b-" + telemetry.JobSpanID("jobs", name).String() + "-01",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces",
	}
	if difference := cmp.Diff(want, last(spec.InitContainers[0].Env)); difference != "" {
		t.Errorf("the fetcher's (-want +got):\n%s", difference)
	}
	recorded = &jobs{}
	if _, err := newExecutor(file{content: content}, recorded).Handle(t.Context(), triggered(t)); err != nil {
		t.Fatal(err)
	}
	if got := last(recorded.created[0].Spec.Template.Spec.Containers[0].Env); len(got) != 1 {
		t.Errorf("without a trace there is %v", got)
	}
}

// A silent action may reference objects that an earlier action creates.
func TestSilentActionMayNameWhatIsNotThereYet(t *testing.T) {
	recorded := &jobs{}
	const content = `apiVersion: v2
actions:
- {name: A, event: test, image: busybox}
- {name: B, event: test, silent: true, image: busybox, serviceAccount: made}
`
	if reply, err := newExecutor(file{content: content}, recorded).Handle(t.Context(), triggered(t)); err != nil || len(recorded.created) != 2 {
		t.Errorf("got %v, %v and Jobs %v", reply, err, recorded.names())
	}
}

// Text of an event is never expanded. An invalid variable name is skipped as a label.
func TestTextOfAnEventIsData(t *testing.T) {
	received := triggered(t)
	if err := received.SetData("application/json", map[string]any{
		"project": "$(A)", "stage": "s", "service": "v", "labels": map[string]string{"größe": "1", "a=b": "2", "a b": "$(TOKEN)", "c": "$$5"},
	}); err != nil {
		t.Fatal(err)
	}
	recorded := &jobs{}
	const env = "image: busybox\n    env: [{name: A, value: $.data.labels.c, valueFrom: event}, {name: B, value: $(A), valueFrom: string}]"
	if _, err := newExecutor(file{content: task(env)}, recorded).Handle(t.Context(), received); err != nil {
		t.Fatal(err)
	}
	want := []corev1.EnvVar{
		{Name: "HOME", Value: "/tmp"}, {Name: "A", Value: "$$$$5"}, {Name: "B", Value: "$(A)"},
		{Name: "KEPTN_PROJECT", Value: "$$(A)"}, {Name: "KEPTN_STAGE", Value: "s"}, {Name: "KEPTN_SERVICE", Value: "v"},
		{Name: "LABELS_A_B", Value: "$$(TOKEN)"}, {Name: "LABELS_C", Value: "$$$$5"},
	}
	if difference := cmp.Diff(want, recorded.created[0].Spec.Template.Spec.Containers[0].Env); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// Events of older Keptns have no commit. Numbers keep their digits.
func TestEnvelope(t *testing.T) {
	received := triggered(t)
	received.SetExtension(keptn.GitCommitIDExtension, nil)
	if err := received.SetData("application/json", []byte(`{"n": 9007199254740993}`)); err != nil {
		t.Fatal(err)
	}
	got, err := envelopeOf(received)
	want := jobconfig.Envelope{
		"id": triggeredID, "type": "sh.keptn.event.test.triggered", "source": "shipyard-controller", "time": "2026-11-23T23:13:01Z", "specversion": "1.0",
		"shkeptncontext": "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b", "gitcommitid": "", "data": map[string]any{"n": json.Number("9007199254740993")},
	}
	if difference := cmp.Diff(want, got); difference != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, difference)
	}
}

// The executor answers every file with a bounded result that only depends on the file and the event.
func FuzzHandle(f *testing.F) {
	corpus, err := filepath.Glob("../jobconfig/testdata/corpus/*/*.yaml")
	if err != nil || len(corpus) == 0 {
		f.Fatalf("there is no corpus: %v", err)
	}
	for _, path := range corpus {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Add([]byte(twoTasks))
	f.Fuzz(func(t *testing.T, content []byte) {
		var all [2][]batchv1.Job
		for index := range all {
			recorded := &jobs{}
			if _, err := newExecutor(file{content: string(content)}, recorded).Handle(t.Context(), triggered(t)); err != nil {
				t.Fatal(err)
			}
			all[index] = recorded.created
			size := 0
			for _, job := range recorded.created {
				size += job.Size()
			}
			if len(recorded.created) > 100 || size > 4<<20 {
				t.Errorf("%d Jobs of %d bytes", len(recorded.created), size)
			}
		}
		if difference := cmp.Diff(all[0], all[1]); difference != "" {
			t.Errorf("(-one +other):\n%s", difference)
		}
	})
}

// keptnEvent is the event that the bridge makes of an answer.
func keptnEvent(t *testing.T, reply *event.Event) event.Event {
	t.Helper()
	answer, err := protocol.ParseAnswer(*reply)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Task.Event(answer.Phase, answer.At, answer.Outcome)
}
