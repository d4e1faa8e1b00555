package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/job-executor/job-executor/functions/run"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// world is what commands see in a test.
type world struct {
	objects   []runtime.Object
	knative   []runtime.Object
	variables map[string]string
	answer    func(*http.Request) (int, string)
	// logs are those of containers, by pod/container.
	logs   map[string]string
	opened string
	// typed is what the user types.
	typed string
}

func (w *world) RoundTrip(request *http.Request) (*http.Response, error) {
	if w.answer == nil {
		return nil, errors.New("nobody is there")
	}
	code, body := w.answer(request)
	return &http.Response{StatusCode: code, Status: fmt.Sprint(code), Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: request}, nil
}

func (w *world) call(t *testing.T, name string, arguments ...string) (string, error) {
	t.Helper()
	lists := map[schema.GroupVersionResource]string{}
	for _, kind := range []string{"Service", "Broker", "Trigger"} {
		group := "eventing.knative.dev"
		if kind == "Service" {
			group = "serving.knative.dev"
		}
		lists[schema.GroupVersionResource{Group: group, Version: "v1", Resource: strings.ToLower(kind) + "s"}] = kind + "List"
	}
	var written bytes.Buffer
	command := New(Surroundings{
		IOStreams: genericiooptions.IOStreams{In: strings.NewReader(w.typed), Out: &written, ErrOut: &written}, Name: name, Version: "v1.2.3",
		Now: func() time.Time { return noon }, Getenv: func(name string) string { return w.variables[name] }, Transport: w,
		Connect: func(genericclioptions.RESTClientGetter) (Cluster, error) {
			return Cluster{
				Kubernetes: logging{fake.NewClientset(w.objects...), w.logs},
				Knative:    dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists, w.knative...),
			}, nil
		},
		Open: func(_ context.Context, address string) error { w.opened = address; return nil },
	})
	command.SetArgs(arguments)
	err := command.ExecuteContext(t.Context())
	return written.String(), err
}

// job returns a Job of a run of one Job, triggered some seconds before noon.
func job(number, secondsAgo int, change func(*batchv1.Job)) *batchv1.Job {
	id := fmt.Sprintf("%08d-0000-4000-8000-000000000000", number)
	triggered := noon.Add(-time.Duration(secondsAgo) * time.Second)
	name := run.Name(id, 0, 1)
	created := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: defaultNamespace, Name: name, CreationTimestamp: metav1.NewTime(triggered),
			Labels: map[string]string{
				run.ManagedByLabel: run.ManagedBy, run.InstanceLabel: "job-executor", run.EventIDLabel: id,
				run.ContextLabel: fmt.Sprintf("c%07d-0000-4000-8000-000000000000", number),
			},
			Annotations: map[string]string{
				run.TaskAnnotation: fmt.Sprintf(`{"triggeredID": %q, "name": "test", "context": "c%07d-0000-4000-8000-000000000000", "project": "shop", "stage": "dev",
					"service": "cart", "labels": {"trace": "https://jaeger.example.com/trace/abc"}, "triggeredAt": %q}`, id, number, triggered.Format(time.RFC3339)),
				run.PlanAnnotation: fmt.Sprintf(`[{"namespace": %q, "name": %q, "task": "hello"}]`, defaultNamespace, name), run.TaskNameAnnotation: "hello",
			},
		},
		Status: batchv1.JobStatus{StartTime: new(metav1.NewTime(triggered))},
	}
	if change != nil {
		change(created)
	}
	return created
}

func ended(kind batchv1.JobConditionType, reported bool) func(*batchv1.Job) {
	return func(created *batchv1.Job) {
		at := metav1.NewTime(created.CreationTimestamp.Add(10 * time.Second))
		created.Status.Conditions = []batchv1.JobCondition{{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: at, Reason: "BackoffLimitExceeded"}}
		if reported {
			created.Annotations[run.ReportedAnnotation] = at.Add(time.Second).Format(time.RFC3339)
		}
	}
}

func runs() []runtime.Object {
	return []runtime.Object{
		job(1, 7200, ended(batchv1.JobComplete, true)), job(2, 60, ended(batchv1.JobFailed, false)), job(3, 30, nil),
		job(4, 20, func(created *batchv1.Job) { run.Queue(created, noon.Add(-20*time.Second)) }),
		job(5, 10, func(created *batchv1.Job) { created.Annotations[run.TaskAnnotation] = "not ours" }),
	}
}

func TestList(t *testing.T) {
	const header = "CONTEXT                                PROJECT   STAGE   SERVICE   TASK   STATUS    JOBS   AGE    DURATION\n"
	row := func(number int, rest string) string {
		return fmt.Sprintf("c%07d-0000-4000-8000-000000000000   shop      dev     cart      test   %s\n", number, rest)
	}
	tests := []struct {
		name      string
		arguments []string
		want, err string
	}{
		{
			name: "the newest first",
			want: header + row(4, "queued    0/1    20s    20s") + row(3, "running   0/1    30s    30s") + row(2, "errored   1/1    60s    10s") + row(1,
				"pass      1/1    120m   10s"),
		},
		{
			name: "by status and age", arguments: []string{"--status", "pass", "--since", "3h", "--no-headers"},
			want: "c0000001-0000-4000-8000-000000000000   shop   dev   cart   test   pass   1/1   120m   10s\n",
		},
		{name: "of another project", arguments: []string{"--project", "bank"}, want: "No runs found in namespace job-executor-jobs.\n"},
		{name: "of another stage", arguments: []string{"--stage", "prod"}, want: "No runs found in namespace job-executor-jobs.\n"},
		{name: "of another service", arguments: []string{"--service", "payment"}, want: "No runs found in namespace job-executor-jobs.\n"},
		{name: "of another task", arguments: []string{"--task", "release"}, want: "No runs found in namespace job-executor-jobs.\n"},
		{
			name: "by all names", arguments: []string{"--project", "shop", "--stage", "dev", "--service", "cart", "--task", "test", "-o", "name", "c0000003"},
			want: "run.job-executor.github.io/00000003-0000-4000-8000-000000000000\n",
		},
		{name: "of another age", arguments: []string{"--since", "1s", "-A"}, want: "No runs found in all namespaces.\n"},
		{name: "the beginning of a context", arguments: []string{"c0000003", "-o", "name"},
			want: "run.job-executor.github.io/00000003-0000-4000-8000-000000000000\n"},
		{
			name: "by a path", arguments: []string{"-o", "jsonpath={range .items[*]}{.spec.project} {.status.phase} {.status.jobs[0].phase}{'\\n'}{end}"},
			want: "shop queued waiting\nshop running running\nshop errored failed\nshop pass succeeded\n",
		},
		{
			name: "wide", arguments: []string{"c0000001", "-o", "wide", "--no-headers"},
			want: "c0000001-0000-4000-8000-000000000000   shop   dev   cart   test   pass   1/1   120m   10s   119m ago   " +
				"job-executor-jobs   00000001-0000-4000-8000-000000000000\n",
		},
		{
			name: "as YAML", arguments: []string{"c0000001", "-o", "yaml"}, want: `apiVersion: job-executor.github.io/v1
items:
- apiVersion: job-executor.github.io/v1
  kind: Run
  metadata:
    creationTimestamp: "2026-11-30T10:00:00Z"
    name: 00000001-0000-4000-8000-000000000000
    namespace: job-executor-jobs
  spec:
    context: c0000001-0000-4000-8000-000000000000
    project: shop
    service: cart
    stage: dev
    task: test
  status:
    completionTime: "2026-11-30T10:00:10Z"
    jobs:
    - name: job-00000001-0000-4000-8000-000000000000-000-001
      namespace: job-executor-jobs
      phase: succeeded
      task: hello
    phase: pass
    reportedTime: "2026-11-30T10:00:11Z"
kind: RunList
`,
		},
		{name: "an unknown status", arguments: []string{"--status", "done"},
			err: `--status "done" must be one of creating, queued, running, pass, warning, fail, errored`},
		{name: "an unknown format", arguments: []string{"-o", "xml"}, err: `--output: unable to match a printer suitable for the output format "xml"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := &world{objects: runs()}
			got, err := w.call(t, "job-executor", append([]string{"list"}, test.arguments...)...)
			if message := fmt.Sprint(err); err != nil && !strings.HasPrefix(message, test.err) || (err == nil) != (test.err == "") {
				t.Errorf("got error %v, want %q", err, test.err)
			}
			if difference := cmp.Diff(test.want, got); err == nil && difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

func TestContextThatIsNotUnique(t *testing.T) {
	w := &world{objects: runs()}
	for _, command := range []string{"describe", "logs"} {
		if _, err := w.call(t, "job-executor", command, "c000000"); err == nil || !strings.HasPrefix(err.Error(), "4 Keptn contexts begin with c000000: c0000001-") {
			t.Errorf("%s: %v", command, err)
		}
		_, err := w.call(t, "job-executor", command, "d")
		if want := "namespace job-executor-jobs has no run of Keptn context d"; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", command, err, want)
		}
	}
}

// Without Keptn's API, a sequence is over if no further task begins in time.
func TestWaitWithoutKeptn(t *testing.T) {
	for status, test := range map[string]struct {
		object runtime.Object
		code   int
		output string
	}{
		"pass":          {job(1, 60, ended(batchv1.JobComplete, true)), 0, "test pass\n"},
		"errored":       {job(1, 60, ended(batchv1.JobFailed, true)), exitErrored, "test errored\n"},
		"running":       {job(1, 60, nil), exitTimeout, "test running\n"},
		"not reported":  {job(1, 60, ended(batchv1.JobComplete, false)), exitTimeout, "test pass\n"},
		"of no context": {job(2, 60, nil), exitTimeout, ""},
	} {
		t.Run(status, func(t *testing.T) {
			w := &world{objects: []runtime.Object{test.object}}
			output, err := w.call(t, "job-executor", "wait", "c0000001-0000-4000-8000-000000000000", "--next-within", "0s", "--timeout", "1s")
			if ExitCode(err) != test.code || output != test.output {
				t.Errorf("got exit code %d (%v), %q; want %d, %q", ExitCode(err), err, output, test.code, test.output)
			}
		})
	}
}

func TestDescribeSaysWhatARunWaitsFor(t *testing.T) {
	w := &world{objects: []runtime.Object{runs()[3], runs()[2]}}
	for argument, want := range map[string]string{
		"c0000004": "It waits for other runs of project shop to end: MAX_ACTIVE_RUNS_PER_PROJECT is reached.",
		"c0000003": "Task 'hello' waits: The pod did not start within 30s. Kubernetes reports no reason.",
	} {
		got, err := w.call(t, "job-executor", "describe", argument)
		if err != nil || !strings.Contains(got, "\n  "+want+"\n") || !strings.Contains(got, "Trace:    https://jaeger.example.com/trace/abc\n") {
			t.Errorf("%s: %v, %s", argument, err, got)
		}
	}
}

// Everybody who can run a task decides how it ends.
func TestTextsDoNotControlTheTerminal(t *testing.T) {
	failed := job(1, 60, ended(batchv1.JobFailed, true))
	failed.Annotations[run.FailureAnnotation] = "all is well\x1b[2K\r"
	w := &world{objects: []runtime.Object{failed}}
	got, err := w.call(t, "job-executor", "describe", "c0000001")
	if err != nil || strings.ContainsAny(got, "\x1b\r") || !strings.Contains(got, "all is well^[[2K\\r") {
		t.Errorf("%v, %q", err, got)
	}
}

func TestDescribeNamesAMissingJob(t *testing.T) {
	two := func(created *batchv1.Job) {
		ended(batchv1.JobComplete, true)(created)
		created.Annotations[run.PlanAnnotation] = fmt.Sprintf(`[{"namespace": "jobs", "name": %q, "task": "hello"},
			{"namespace": "jobs", "name": "job-1-000-002", "task": "bye"}]`, created.Name)
	}
	w := &world{objects: []runtime.Object{job(1, 60, two)}}
	got, err := w.call(t, "job-executor", "describe", "c0000001")
	if want := "Job job-1-000-002 in namespace jobs was deleted before the task ended"; err != nil || !strings.Contains(got, want) ||
		!strings.Contains(got, "Task test: errored") {
		t.Errorf("%v, %s", err, got)
	}
}

const aTrace = `{"data": [{"spans": [
	{"spanID": "1", "operationName": "RUN shop/dev/cart", "processID": "p1", "startTime": 1, "duration": 1500000,
		"tags": [{"key": "cicd.pipeline.result", "value": "failure"}]},
	{"spanID": "2", "operationName": "hop", "processID": "p2", "startTime": 2, "duration": 1000, "references": [{"refType": "CHILD_OF", "spanID": "1"}]}],
	"processes": {"p1": {"serviceName": "job-executor-bridge"}, "p2": {"serviceName": "broker"}}}]}`

func TestTrace(t *testing.T) {
	const drawn = "job-executor-bridge: RUN shop/dev/cart = failure                                          1.50 s\n\n1 spans, and 1 of Knative and others.\n"
	tests := []struct {
		name, argument, asked string
		arguments             []string
		variables             map[string]string
		body, want, err       string
		opened                string
	}{
		{name: "of a run with a link", argument: "c0000001", asked: "https://jaeger.example.com/api/traces/c0000001000040008000000000000000", body: aTrace,
			want: drawn},
		{
			name: "of a context without Jobs", argument: "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b", arguments: []string{"--jaeger", "http://jaeger:16686/"},
			asked: "http://jaeger:16686/api/traces/4ed578f61e1e4a119b2e9a7111760f5b", body: aTrace, want: drawn,
		},
		{
			name: "from the environment", argument: "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b", variables: map[string]string{jaegerVariable: "http://there"},
			asked: "http://there/api/traces/4ed578f61e1e4a119b2e9a7111760f5b", body: `{"data": []}`,
			err: "Jaeger has no trace of context 4ed578f6-1e1e-4a11-9b2e-9a7111760f5b",
		},
		{name: "in a browser", argument: "c0000001", arguments: []string{"--open"}, opened: "https://jaeger.example.com/trace/abc"},
		{name: "of nothing", argument: "d", err: "namespace job-executor-jobs has no run of Keptn context d"},
		{name: "without Jaeger", argument: "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b", err: "set --jaeger or JAEGER_URL to Jaeger's address"},
		{name: "of a wrong Service", argument: "c0000001", arguments: []string{"--jaeger", "jaeger"},
			err: "ask Jaeger for the trace of context c0000001-0000-4000-8000-000000000000: " +
				`"jaeger" is neither an address nor NAMESPACE/NAME:PORT`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			asked := ""
			w := &world{objects: runs(), variables: test.variables, answer: func(request *http.Request) (int, string) {
				asked = request.URL.String()
				return http.StatusOK, test.body
			}}
			got, err := w.call(t, "job-executor", append([]string{"trace", test.argument}, test.arguments...)...)
			if (err == nil) != (test.err == "") || err != nil && !strings.HasPrefix(err.Error(), test.err) {
				t.Errorf("got error %v, want %q", err, test.err)
			}
			if got != test.want || asked != test.asked || w.opened != test.opened {
				t.Errorf("got %q, asked %q, opened %q", got, asked, w.opened)
			}
		})
	}
}

// Everybody who can trigger a sequence can label it, and file:///… starts programs on some systems.
func TestOnlyWebAddressesAreOpened(t *testing.T) {
	labelled := job(1, 60, nil)
	labelled.Annotations[run.TaskAnnotation] = strings.Replace(labelled.Annotations[run.TaskAnnotation], "https://jaeger.example.com", "file:///bin", 1)
	w := &world{objects: []runtime.Object{labelled}}
	_, err := w.call(t, "job-executor", "trace", "c0000001", "--open")
	const want = `--open needs Jaeger's web address, not "file:///bin/trace/abc"; name it with --jaeger`
	if err == nil || err.Error() != want || w.opened != "" {
		t.Errorf("got %v, opened %q", err, w.opened)
	}
	_, err = w.call(t, "job-executor", "trace", "c0000001", "--open", "--jaeger", "https://jaeger.example.org/")
	if err != nil || w.opened != "https://jaeger.example.org/trace/c0000001000040008000000000000000" {
		t.Errorf("got %v, opened %q", err, w.opened)
	}
}

func knative(group, kind, name, status, reason, message string) runtime.Object {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": group + "/v1", "kind": kind, "metadata": map[string]any{"namespace": defaultSystemNamespace, "name": name},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{
			map[string]any{"image": "registry/executor:v1.2.3@sha256:0123456789abcdef"},
		}}}},
		"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": status, "reason": reason, "message": message}}},
	}}
}

func TestStatus(t *testing.T) {
	labels := map[string]string{"app.kubernetes.io/name": "bridge", "app.kubernetes.io/part-of": "job-executor"}
	bridge := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: defaultSystemNamespace, Name: "bridge", Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: "registry/bridge:v1.2.3"}}}},
		},
		Status: appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1},
	}
	starting := bridge.DeepCopy()
	starting.Status.ReadyReplicas = 0
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: defaultSystemNamespace, Name: "bridge-1", Labels: labels},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 5m0s"}},
		}}},
	}
	silent := pod.DeepCopy()
	silent.Name = "bridge-2" // without a log
	complaining := ""
	for number := range 7 {
		complaining += fmt.Sprintf(`{"time":"2026-11-30T12:00:0%[1]dZ","level":"WARN","msg":"%[1]d"}`+"\n", number)
	}
	scaled := starting.DeepCopy()
	scaled.Name, scaled.Labels = "watcher-00001-deployment", map[string]string{"app.kubernetes.io/part-of": "job-executor",
		"serving.knative.dev/service": "watcher"}
	healthy := []runtime.Object{
		knative("eventing.knative.dev", "Trigger", "active", "True", "", ""), knative("eventing.knative.dev", "Trigger", "watcher", "True", "", ""),
		knative("serving.knative.dev", "Service", "watcher", "True", "", ""), knative("eventing.knative.dev", "Broker", "keptn", "True", "", ""),
	}
	const integrations = `[{"id": "1", "name": "job-executor", "metadata": {"integrationversion": "v1.2.3", "lastseen": "2026-11-30T11:59:57Z"},
		"subscriptions": [{"event": "sh.keptn.event.test.triggered", "filter": {"projects": ["shop"]}}]}, {"id": "2", "name": "other"}]`
	access := map[string]string{endpointVariable: "https://keptn.example.com", tokenVariable: "token"}
	tests := []struct {
		name      string
		objects   []runtime.Object
		knative   []runtime.Object
		variables map[string]string
		logs      map[string]string
		body      string
		httpCode  int
		want      string
		code      int
	}{
		{
			name: "all is well", objects: append(runs(), bridge, scaled), knative: healthy, variables: access, body: integrations, httpCode: http.StatusOK,
			want: `KIND        NAME     READY  VERSION  REASON
Deployment  bridge   yes    v1.2.3
Service     watcher  yes    sha256:0123456789ab
Broker      keptn    yes
Trigger     all 2    yes

Keptn: integration job-executor, version v1.2.3, last seen 3s ago
  sh.keptn.event.test.triggered, only projects shop

Runs: 1 queued, the oldest since 20s
Runs: 1 running, the oldest since 30s
Runs: 1 ended, but not reported to Keptn, the oldest since 50s
`,
		},
		{
			name: "a bridge that crashes, and a Broker that is not ready", objects: []runtime.Object{starting, pod}, code: exitFail,
			knative: []runtime.Object{knative("eventing.knative.dev", "Broker", "keptn", "False", "ChannelMissing", "no channel")},
			want: `KIND        NAME    READY  VERSION  REASON
Deployment  bridge  no     v1.2.3   CrashLoopBackOff: back-off 5m0s
Broker      keptn   no              ChannelMissing: no channel

Keptn: not asked; set KEPTN_ENDPOINT and KEPTN_API_TOKEN to Keptn's API and your token, as for keptn auth

Runs: nothing runs or waits
`,
		},
		{
			name: "a token that Keptn refuses", objects: []runtime.Object{bridge}, variables: access, httpCode: http.StatusUnauthorized,
			body: `{"code": 401, "message": "unauthorized"}`, code: exitFail,
			want: `KIND        NAME    READY  VERSION  REASON
Deployment  bridge  yes    v1.2.3

Keptn: it cannot be asked: Keptn answered GET /api/controlPlane/v1/uniform/registration with 401: unauthorized

Runs: nothing runs or waits
`,
		},
		{
			name: "a bridge that Keptn does not know", objects: []runtime.Object{bridge}, variables: access, httpCode: http.StatusOK, body: "[]", code: exitFail,
			want: `KIND        NAME    READY  VERSION  REASON
Deployment  bridge  yes    v1.2.3

Keptn: no integration job-executor is registered; see the log of the bridge

Runs: nothing runs or waits
`,
		},
		{
			name: "a bridge that complains", objects: []runtime.Object{bridge, pod, silent}, variables: access, httpCode: http.StatusOK, body: "[]", code: exitFail,
			logs: map[string]string{"bridge-1/": complaining},
			want: `KIND        NAME    READY  VERSION  REASON
Deployment  bridge  yes    v1.2.3

Keptn: no integration job-executor is registered; see the log of the bridge

Warnings and errors of the bridge within 10m (config/TROUBLESHOOTING.md explains each):
  12:00:02 WARN 2
  12:00:03 WARN 3
  12:00:04 WARN 4
  12:00:05 WARN 5
  12:00:06 WARN 6

Runs: nothing runs or waits
`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := &world{
				objects: test.objects, knative: test.knative, variables: test.variables, logs: test.logs,
				answer: func(*http.Request) (int, string) { return test.httpCode, test.body },
			}
			got, err := w.call(t, "job-executor", "status")
			if ExitCode(err) != test.code || err != nil && !IsSilent(err) {
				t.Errorf("got %v, want exit code %d", err, test.code)
			}
			if difference := cmp.Diff(test.want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
	w := &world{}
	if _, err := w.call(t, "job-executor", "status"); err == nil ||
		err.Error() != "namespace job-executor has no Job Executor; name its namespace with --system-namespace" {
		t.Errorf("without an installation: %v", err)
	}
}

func TestComplaintsOfALog(t *testing.T) {
	log := `{"time":"2026-11-30T12:00:00Z","level":"INFO","msg":"started"}
not JSON
{"time":"2026-11-30T12:00:00Z","level":"INFO","msg":"` + strings.Repeat("long", 50000) + `"}
{"time":"2026-11-30T12:00:01Z","level":"ERROR","msg":"Keptn refuses the API token","request":"PUT /ping"}
{"time":"2026-11-30T12:00:02Z","level":"WARN","msg":"listing failed; retrying","error":"timeout"}
`
	want := []string{"12:00:01 ERROR Keptn refuses the API token", "12:00:02 WARN listing failed; retrying: timeout"}
	if difference := cmp.Diff(want, complaintsOf(strings.NewReader(log))); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

func TestHelp(t *testing.T) {
	w := &world{}
	for program, name := range map[string]string{
		"/usr/bin/job-executor": "job-executor", "kubectl-job_executor": "kubectl job-executor", "kn-job_executor": "kn job-executor",
		"kubectl-job_executor.exe": "kubectl job-executor",
	} {
		got, err := w.call(t, program, "describe", "--help")
		if err != nil || !strings.Contains(got, "\n  "+name+" describe CONTEXT") || !strings.Contains(got, "\n  "+name+" describe 4ed5\n") {
			t.Errorf("%s: %v, %s", program, err, got)
		}
	}
	if got, err := w.call(t, "job-executor", "--version"); err != nil || got != "job-executor version v1.2.3\n" {
		t.Errorf("%v, %q", err, got)
	}
	root := New(Surroundings{Name: "job-executor"})
	for _, command := range root.Commands() {
		if command.Example == "" && command.Name() != "help" && command.Name() != "completion" {
			t.Errorf("%s has no example", command.Name())
		}
	}
}

// Keptn has triggered no task of a sequence that waits for another one (recording 46-queued).
func TestDescribeSaysWhatASequenceWithoutTasksWaitsFor(t *testing.T) {
	const keptnContext = "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b"
	for state, want := range map[string]string{
		"waiting": "Keptn runs the sequences of a service in a stage one after the other, and an earlier one has not ended.",
		"started": "No task of it has Jobs or a result. job-executor status says what is subscribed to and what waits.",
	} {
		variables := map[string]string{endpointVariable: "https://keptn.example.com/api", tokenVariable: "token"}
		w := &world{variables: variables, answer: func(request *http.Request) (int, string) {
			switch {
			case strings.Contains(request.URL.Path, "/sequence/shop"):
				return http.StatusOK, `{"states": [{"state": "` + state + `"}], "totalCount": 1}`
			case strings.Contains(request.URL.Path, "/mongodb-datastore/event"):
				return http.StatusOK, `{"events": [{"specversion": "1.0", "id": "1", "source": "user", "type": "sh.keptn.event.dev.delivery.triggered",
					"shkeptncontext": "` + keptnContext + `", "data": {"project": "shop", "stage": "dev", "service": "cart"}}], "totalCount": 1}`
			default:
				return http.StatusOK, `{"logs": []}`
			}
		}}
		got, err := w.call(t, "job-executor", "describe", keptnContext)
		whole := "Sequence delivery of service cart in project shop, stage dev is " + state + " in Keptn.\n  " + want + "\n"
		if difference := cmp.Diff(whole, got); err != nil || difference != "" {
			t.Errorf("%v (-want +got):\n%s", err, difference)
		}
	}
}

// Cancel and rerun change something, so they ask first.
func TestNothingIsChangedUnasked(t *testing.T) {
	for command, posted := range map[string]string{
		"cancel": "/api/controlPlane/v1/sequence/shop/4ed578f6-1e1e-4a11-9b2e-9a7111760f5b/control", "rerun": "/api/v1/event",
	} {
		for typed, isAgreed := range map[string]bool{"": false, "\n": false, "n\n": false, "Y\n": true, " yes \n": true, "y": true} {
			var posts []string
			w := &world{
				typed: typed, variables: map[string]string{endpointVariable: "https://keptn.example.com/api/", tokenVariable: "token"},
				answer: func(request *http.Request) (int, string) {
					if request.Method != http.MethodGet {
						posts = append(posts, request.URL.Path)
						return http.StatusOK, `{"keptnContext": "new"}`
					}
					return http.StatusOK, `{"events": [{"specversion": "1.0", "id": "1", "source": "user",
						"type": "sh.keptn.event.dev.pipeline.triggered", "data": {"project": "shop", "service": "cart"}}]}`
				},
			}
			got, err := w.call(t, "job-executor", command, "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b")
			if !strings.Contains(got, "sequence pipeline of service cart in project shop, stage dev") {
				t.Errorf("%s: %s", command, got)
			}
			if isAgreed && (err != nil || len(posts) != 1 || posts[0] != posted) || !isAgreed && (!errors.Is(err, errDeclined) || len(posts) > 0) {
				t.Errorf("%s, answered with %q: %v, posts to %v", command, typed, err, posts)
			}
		}
		without := &world{}
		if _, err := without.call(t, "job-executor", command, "4ed578f6-1e1e-4a11-9b2e-9a7111760f5b"); !errors.Is(err, errNoKeptn) {
			t.Errorf("%s without Keptn: %v", command, err)
		}
	}
}
