//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
)

// startDeadline is short, so that failures to start are reported soon.
const startDeadline = 20 * time.Second

// setStartDeadline sets the start deadline of pods for the duration of a test.
func setStartDeadline(t *testing.T, installed *system.Installation, deadline time.Duration) {
	t.Helper()
	afterTest(t, func(ctx context.Context) error { return installed.SetStartDeadline(ctx, 5*time.Minute) })
	must(t, installed.SetStartDeadline(t.Context(), deadline))
}

// acting are the files of a project whose deployment runs tasks.
func acting(tasks string) map[string]string {
	return map[string]string{"job/config.yaml": `apiVersion: v2
actions:
  - name: Act
    events: [{name: sh.keptn.event.deployment.triggered}]
    tasks: [` + tasks + `]
`}
}

// For each failure of a Job on a real cluster, Keptn's message has Kubernetes' reason and a remedy.
func TestReasons(t *testing.T) {
	installed := connect(t)
	setStartDeadline(t, installed, startDeadline)
	quota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "e2e"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourceRequestsCPU: resource.MustParse("100")}},
	}
	quotas := installed.Kubernetes.CoreV1().ResourceQuotas(system.JobsNamespace)
	if _, err := quotas.Create(t.Context(), quota, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	afterTest(t, func(ctx context.Context) error { return quotas.Delete(ctx, quota.Name, metav1.DeleteOptions{}) })
	pods := installed.Kubernetes.CoreV1().Pods(system.JobsNamespace)
	jobs := installed.Kubernetes.BatchV1().Jobs(system.JobsNamespace)
	background := metav1.DeletePropagationBackground
	deleteJob := func(index int) func(context.Context, []batchv1.Job, string) error {
		return func(ctx context.Context, all []batchv1.Job, _ string) error {
			return jobs.Delete(ctx, all[index].Name, metav1.DeleteOptions{PropagationPolicy: &background})
		}
	}
	const sleeping = `{name: T, image: busybox, cmd: [sleep], args: ["200"]}`
	tests := []struct {
		name, tasks string
		// then is called once the first Job's pod runs.
		then func(ctx context.Context, jobs []batchv1.Job, pod string) error
		want []string
		// red is the phase of the Job that is marked as failed in the trace, if that is tested.
		red string
	}{
		{
			name:  "a quota",
			tasks: `{name: T, image: busybox, resources: {requests: {cpu: "200"}, limits: {cpu: "200"}}}`,
			want:  []string{"The pod did not start within", "The pod was rejected (FailedCreate", "exceeded quota: e2e"},
		},
		{
			name:  "pod security",
			tasks: `{name: T, image: busybox, securityContext: {capabilities: {add: [NET_ADMIN]}}}`,
			want:  []string{"Kubernetes would reject its pod", "violates PodSecurity"},
		},
		{
			name:  "no node is large enough",
			tasks: `{name: T, image: busybox, resources: {requests: {cpu: 50m, memory: 500Gi}, limits: {memory: 500Gi}}}`,
			want:  []string{"The pod did not start within", "No node can run the pod (Unschedulable", "Insufficient memory"}, red: "pending",
		},
		{
			name:  "an image that does not exist",
			tasks: `{name: T, image: "registry.invalid/nothing:1"}`,
			want:  []string{"The pod did not start within", "Image registry.invalid/nothing:1 of container task cannot be pulled"}, red: "pending",
		},
		{
			name:  "a command that does not exist",
			tasks: `{name: T, image: busybox, cmd: [nothing-like-it]}`,
			want:  []string{"Container task failed", "nothing-like-it"}, red: "pending",
		},
		{
			name:  "a volume that is full",
			tasks: `{name: T, image: busybox, cmd: [sh, -c], args: ["head -c 40000000 /dev/zero > /keptn/large; sleep 200"]}`,
			want:  []string{"The pod was evicted", `Usage of EmptyDir volume "keptn-files" exceeds the limit "20Mi"`, "JOB_VOLUME_SIZE"},
		},
		{
			name:  "too little memory",
			tasks: `{name: T, image: busybox, cmd: [tail, /dev/zero], resources: {requests: {cpu: 50m}, limits: {memory: 16Mi}}}`,
			want:  []string{"OOMKilled", "limit 16Mi", "resources.limits.memory"},
		},
		{
			name:  "it ends as if it was killed",
			tasks: `{name: T, image: busybox, cmd: [sh, -c], args: ["exit 137"]}`,
			want:  []string{"Container task failed", "ExitCode: 137"},
		},
		{
			name:  "it fails",
			tasks: `{name: T, image: busybox, cmd: [sh, -c], args: ["echo what went wrong; exit 3"]}`,
			want:  []string{"ExitCode: 3", "what went wrong"},
		},
		{
			name:  "its time is over",
			tasks: `{name: T, image: busybox, cmd: [sleep], args: ["200"], maxPollDuration: 5}`,
			want:  []string{"The task did not finish within 5 seconds (maxPollDuration)."},
		},
		{
			name:  "a file that does not exist",
			tasks: `{name: T, image: busybox, files: [nowhere.txt]}`,
			want:  []string{"The files of the task could not be fetched.", "could not find file or directory nowhere.txt"}, red: "fetch files",
		},
		{name: "its pod is evicted", tasks: sleeping, then: func(ctx context.Context, _ []batchv1.Job, pod string) error {
			return pods.EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: system.JobsNamespace}})
		}, want: []string{"Task 'T' failed: ", "pod"}},
		{name: "its pod is deleted", tasks: sleeping, then: func(ctx context.Context, _ []batchv1.Job, pod string) error {
			return pods.Delete(ctx, pod, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
		}, want: []string{"The pod was deleted before the task ended"}},
		{
			name:  "the running Job is deleted",
			tasks: sleeping + ", {name: Next, image: busybox}",
			then:  deleteJob(0),
			want:  []string{"Task 'T' failed: Job", "was deleted before the task ended"},
		},
		{
			name:  "the waiting Job is deleted",
			tasks: `{name: T, image: busybox, cmd: [sleep], args: ["5"]}, {name: Next, image: busybox}`,
			then:  deleteJob(1),
			want:  []string{"Task 'Next' failed: Job", "was deleted before the task ended", "Task 'T' finished successfully!"},
		},
		{name: "the only Job is deleted", tasks: sleeping, then: deleteJob(0), want: []string{"The Jobs of this task were deleted before its result was read"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			project, keptnContext := begin(t, installed, []string{"deployment"}, acting(test.tasks))
			if test.then != nil {
				all, pod := awaitPod(t, installed, keptnContext)
				must(t, test.then(t.Context(), all, pod))
			}
			began := time.Now()
			stageState, events := end(t, installed, project, keptnContext)
			compare(t, "stage", "errored", stageState)
			compare(t, "events", []summary{{Type: "deployment.started"}, {"deployment.finished", "errored", "fail"}}, summaries(events))
			message := events[len(events)-1].Data.Message
			contains(t, message, test.want...)
			if !slices.ContainsFunc([]string{"Task '", "The Jobs", `action "`}, func(begin string) bool { return strings.HasPrefix(message, begin) }) {
				t.Errorf("the message does not begin with what happened: %s", message)
			}
			t.Logf("%s: %s", time.Since(began).Round(time.Second), message)
			if test.red != "" {
				isRed(t, installed, keptnContext, test.red)
			}
		})
	}
}

// isRed checks that a phase of a context's only Job failed. The phase must be written once, however often the end
// is reported.
func isRed(t *testing.T, installed *system.Installation, keptnContext, phase string) {
	t.Helper()
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		spans, err := installed.Trace(ctx, console.TraceID(keptnContext))
		if err != nil {
			return err
		}
		var found []console.Span
		for _, span := range spans {
			if span.Service == "job-executor-jobs" && span.Name == phase {
				found = append(found, span)
			}
		}
		if len(found) != 1 || found[0].Error == "" {
			return fmt.Errorf("the spans %q are %+v", phase, found)
		}
		return nil
	}))
}

// Deleting a namespace also deletes its roles. Tasks with Jobs in it end all the same, also those with further
// Jobs elsewhere. Whether a Job fails before it is deleted itself is up to Kubernetes.
func TestNamespaceIsDeleted(t *testing.T) {
	installed := connect(t)
	namespace := "e2e-" + uuid.NewString()[:8]
	must(t, installed.AddJobNamespace(t.Context(), namespace))
	afterTest(t, func(ctx context.Context) error { return installed.SetJobNamespaces(ctx, system.JobsNamespace) })
	t.Run("pod security", func(t *testing.T) { testPrivileged(t, installed, namespace) })
	tests := []struct {
		name, tasks string
		want        []string
	}{
		{
			name:  "all Jobs were in it",
			tasks: `{name: T, image: busybox, cmd: [sleep], args: ["200"], namespace: ` + namespace + `}`,
			want:  []string{"deleted before"},
		},
		{
			name:  "one was, one was not",
			tasks: `{name: First, image: busybox}, {name: T, image: busybox, cmd: [sleep], args: ["200"], namespace: ` + namespace + `}`,
			want:  []string{"Task 'T' failed: ", "was deleted before", "Task 'First' finished successfully!"},
		},
	}
	type sequence struct{ project, keptnContext string }
	var sequences []sequence
	for _, test := range tests {
		project, keptnContext := begin(t, installed, []string{"deployment"}, acting(test.tasks))
		sequences = append(sequences, sequence{project, keptnContext})
	}
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		pods, err := installed.Kubernetes.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
		if err == nil && len(pods.Items) < len(tests) {
			err = fmt.Errorf("%d pods run in namespace %s", len(pods.Items), namespace)
		}
		return err
	}))
	must(t, installed.Kubernetes.CoreV1().Namespaces().Delete(t.Context(), namespace, metav1.DeleteOptions{}))
	for index, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			began := time.Now()
			stageState, events := end(t, installed, sequences[index].project, sequences[index].keptnContext)
			compare(t, "stage", "errored", stageState)
			compare(t, "events", []summary{{Type: "deployment.started"}, {"deployment.finished", "errored", "fail"}}, summaries(events))
			message := events[len(events)-1].Data.Message
			contains(t, message, test.want...)
			t.Logf("%s: %s", time.Since(began).Round(time.Second), message)
		})
	}
}

// testPrivileged runs a privileged task in a namespace without a pod security level, where it must be rejected,
// and then in a privileged one.
func testPrivileged(t *testing.T, installed *system.Installation, namespace string) {
	t.Helper()
	files := acting(`{name: T, image: busybox, cmd: [grep], args: [CapEff, /proc/self/status], namespace: ` + namespace +
		`, securityContext: {privileged: true, runAsUser: 0, runAsNonRoot: false}}`)
	message := func(want string) string {
		project, keptnContext := begin(t, installed, []string{"deployment"}, files)
		stageState, events := end(t, installed, project, keptnContext)
		compare(t, "stage", want, stageState)
		return events[len(events)-1].Data.Message
	}
	contains(t, message("errored"), "Kubernetes would reject its pod: it is privileged", "pod-security.kubernetes.io/enforce")
	label := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}`)
	_, err := installed.Kubernetes.CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType, label, metav1.PatchOptions{})
	must(t, err)
	if text := message("succeeded"); !strings.Contains(text, "CapEff:") || strings.Contains(text, "CapEff:\t0000000000000000") {
		t.Errorf("the container has no privileges: %s", text)
	}
}

// awaitPod waits until the first Job's pod runs, and the task is started.
func awaitPod(t *testing.T, installed *system.Installation, keptnContext string) (all []batchv1.Job, pod string) {
	t.Helper()
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		var err error
		if all, err = installed.Jobs(ctx, keptnContext); err != nil || len(all) == 0 {
			return errors.Join(errors.New("there are no Jobs"), err)
		}
		run.Sort(all)
		list, err := installed.Kubernetes.CoreV1().
			Pods(system.JobsNamespace).
			List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + all[0].Name})
		if err != nil || len(list.Items) == 0 || list.Items[0].Status.Phase != corev1.PodRunning {
			return errors.Join(fmt.Errorf("no pod of Job %s runs", all[0].Name), err)
		}
		pod = list.Items[0].Name
		events, err := installed.Events(ctx, keptnContext)
		if err == nil && len(console.Ours(events)) == 0 {
			err = errors.New("the task is not started")
		}
		return err
	}))
	return all, pod
}
