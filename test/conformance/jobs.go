package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/job-executor/job-executor/functions/cluster/clientset"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/run/store"
	"github.com/job-executor/job-executor/test/console"
)

// jobLimit bounds the wait for a Job's expected state.
const jobLimit = 90 * time.Second

// job is the functions' view of a Job.
type job struct {
	Phase           run.Phase
	Reason, Message string // of a failed Job
	Began           bool
	Pods            []pod
}

// pod is the functions' view of a pod and its containers.
type pod struct {
	Phase           corev1.PodPhase
	Reason, Message string
	// Unscheduled is why it has no node.
	Unscheduled         string
	Init, Task, Sidecar container
}

type container struct {
	// State is the name and reason of the state, and the exit code of a terminated container.
	State string
	Log   string
	// Message is the termination message.
	Message string
}

// step is a change of a Job and the resulting view.
type step struct {
	do   func(ctx context.Context, stored *store.Jobs, job *batchv1.Job) error
	want job
}

// gone is the view of a deleted Job without pods.
var gone = job{}

func suspend(ctx context.Context, stored *store.Jobs, job *batchv1.Job) error {
	_, err := stored.Client.Jobs(job.Namespace).Patch(ctx, job.Name, types.MergePatchType, []byte(`{"spec":{"suspend":true}}`), metav1.PatchOptions{})
	return err
}

func resume(ctx context.Context, stored *store.Jobs, job *batchv1.Job) error {
	return stored.Resume(ctx, job)
}

func remove(ctx context.Context, stored *store.Jobs, job *batchv1.Job) error {
	return stored.Delete(ctx, job)
}

// podsOf lists the pods of a Job.
func podsOf(ctx context.Context, client kubernetes.Interface, job *batchv1.Job) ([]corev1.Pod, error) {
	pods, err := client.CoreV1().Pods(job.Namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + job.Name})
	if err != nil {
		return nil, err
	}
	return pods.Items, nil
}

// removePods deletes the pods of a Job like another client.
func removePods(client kubernetes.Interface) func(context.Context, *store.Jobs, *batchv1.Job) error {
	return func(ctx context.Context, _ *store.Jobs, job *batchv1.Job) error {
		_, err := deletePods(ctx, client, job)
		return err
	}
}

// deletePods deletes the pods of a Job and returns which.
func deletePods(ctx context.Context, client kubernetes.Interface, job *batchv1.Job) ([]corev1.Pod, error) {
	pods, err := podsOf(ctx, client, job)
	if err != nil {
		return nil, err
	}
	for index := range pods {
		options := metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}
		if err := client.CoreV1().Pods(job.Namespace).Delete(ctx, pods[index].Name, options); err != nil {
			return nil, err
		}
	}
	return pods, nil
}

// replacePods deletes the pods of a Job and waits until they are gone.
func replacePods(client kubernetes.Interface) func(context.Context, *store.Jobs, *batchv1.Job) error {
	return func(ctx context.Context, _ *store.Jobs, job *batchv1.Job) error {
		pods, err := deletePods(ctx, client, job)
		if err != nil {
			return err
		}
		return awaitGone(ctx, client, pods)
	}
}

// awaitGone waits until pods are gone.
func awaitGone(ctx context.Context, client kubernetes.Interface, pods []corev1.Pod) error {
	for index := range pods {
		pod := &pods[index]
		err := console.Eventually(ctx, jobLimit, func(ctx context.Context) error {
			if _, err := client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				return fmt.Errorf("pod %s is there: %w", pod.Name, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// MissingAccount is a service account that does not exist, so that the pod is rejected. MissingNode is a label
// of no node, so that the pod cannot be scheduled.
const (
	MissingAccount = "conformance-missing"
	MissingNode    = "conformance.missing/node"
)

func expire(ctx context.Context, stored *store.Jobs, job *batchv1.Job) error {
	_, err := stored.Client.Jobs(job.Namespace).Patch(ctx, job.Name, types.MergePatchType, []byte(`{"spec":{"ttlSecondsAfterFinished":1}}`), metav1.PatchOptions{})
	return err
}

const (
	backoffLimitExceeded = "BackoffLimitExceeded"
	backoffLimitMessage  = "Job has reached the specified backoff limit"
	deadlineExceeded     = "DeadlineExceeded"
	completed            = "Terminated 0 Completed"
	running              = "Running"
	failedState          = "Terminated 3 Error"
	startError           = "StartError"
)

// newJob returns a Job with one container, like an executor's.
func newJob(namespace, script string, changes ...func(*batchv1.JobSpec)) *batchv1.Job {
	built := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "conformance-" + uuid.NewString()[:8], Labels: map[string]string{"app.kubernetes.io/part-of": "conformance"}},
		Spec: batchv1.JobSpec{
			BackoffLimit: new(int32(0)),
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: new(int64(1)),
				Containers: []corev1.Container{shell(run.TaskContainer, script)},
			}},
		},
	}
	for _, change := range changes {
		change(&built.Spec)
	}
	return built
}

func shell(name, script string) corev1.Container {
	return corev1.Container{
		Name: name, Image: "busybox", Command: []string{"sh", "-c", script},
		Env: []corev1.EnvVar{{Name: "NAME", Value: "value"}, {Name: "COMPOSED", Value: "$(NAME)s $(UNKNOWN) $$(NAME)"}},
	}
}

func withInit(script string) func(*batchv1.JobSpec) {
	return func(spec *batchv1.JobSpec) {
		spec.Template.Spec.InitContainers = []corev1.Container{shell(run.FetcherContainer, script)}
	}
}

// sidecar is the name of a second container.
const sidecar = "sidecar"

func withSidecar(script string) func(*batchv1.JobSpec) {
	return func(spec *batchv1.JobSpec) {
		spec.Template.Spec.Containers = append(spec.Template.Spec.Containers, shell(sidecar, script))
	}
}

func withNativeSidecar(script string) func(*batchv1.JobSpec) {
	return func(spec *batchv1.JobSpec) {
		built := shell(sidecar, script)
		built.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		spec.Template.Spec.InitContainers = append(spec.Template.Spec.InitContainers, built)
	}
}

// evictPods evicts the pods of a Job like a drain, and waits until they are gone.
func evictPods(client kubernetes.Interface) func(context.Context, *store.Jobs, *batchv1.Job) error {
	return func(ctx context.Context, _ *store.Jobs, job *batchv1.Job) error {
		pods, err := podsOf(ctx, client, job)
		if err != nil {
			return err
		}
		for index := range pods {
			eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: job.Namespace, Name: pods[index].Name}}
			if err := client.CoreV1().Pods(job.Namespace).EvictV1(ctx, eviction); err != nil {
				return err
			}
		}
		return awaitGone(ctx, client, pods)
	}
}

// ignoringDisruptions does not count evicted pods, like the Jobs of tasks with retries.
func ignoringDisruptions(spec *batchv1.JobSpec) {
	spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
		Action:          batchv1.PodFailurePolicyActionIgnore,
		OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
	}}}
}

func suspendedFirst(spec *batchv1.JobSpec) { spec.Suspend = new(true) }

// writesLines prints the numbers from 1000001 to 1001000 in lines of 8 bytes.
const writesLines = "seq 1000001 1001000"

// lines returns the lines of writesLines after the first given one.
func lines(first, last int) string {
	var text strings.Builder
	for number := first; number < last; number++ {
		fmt.Fprintf(&text, "%d\n", 1000001+number)
	}
	return text.String()
}

// TestJobs runs Jobs and compares the functions' view of them.
func TestJobs(t *testing.T, client kubernetes.Interface, namespace string) {
	succeeded := job{Phase: run.Succeeded, Began: true, Pods: []pod{{Phase: corev1.PodSucceeded, Task: container{State: completed, Log: "done\n"}}}}
	suspended := job{Phase: run.Waiting}
	runs := job{Phase: run.Running, Began: true, Pods: []pod{{Phase: corev1.PodRunning, Task: container{State: running, Log: "begun\n"}}}}
	failed := func(pods ...pod) job {
		return job{Phase: run.Failed, Reason: backoffLimitExceeded, Message: backoffLimitMessage, Began: true, Pods: pods}
	}
	failedPod := pod{Phase: corev1.PodFailed, Task: container{State: failedState, Log: "broken\n"}}
	tests := []struct {
		name  string
		job   *batchv1.Job
		steps []step
	}{
		{"it succeeds", newJob(namespace, "echo done"), []step{{want: succeeded}}},
		{"its variables are expanded as Kubernetes does", newJob(namespace, "echo $NAME; echo \"$COMPOSED\""), []step{{want: job{
			Phase: run.Succeeded, Began: true, Pods: []pod{{Phase: corev1.PodSucceeded, Task: container{State: completed, Log: "value\nvalues $(UNKNOWN) $(NAME)\n"}}},
		}}}},
		{"its command is expanded, too", newJob(namespace, "echo $(NAME)"), []step{{want: job{
			Phase: run.Succeeded, Began: true, Pods: []pod{{Phase: corev1.PodSucceeded, Task: container{State: completed, Log: "value\n"}}},
		}}}},
		{"it fails", newJob(namespace, "echo broken; exit 3"), []step{{want: failed(failedPod)}}},
		// Each line has 7 digits.
		{"the end is kept of a long termination message", newJob(namespace, writesLines+" > /dev/termination-log; echo done"), []step{{want: job{
			Phase: run.Succeeded, Began: true, Pods: []pod{{Phase: corev1.PodSucceeded, Task: container{State: completed, Log: "done\n", Message: lines(488, 1000)}}},
		}}}},
		{"also of a container that fails", newJob(namespace, writesLines+" > /dev/termination-log; echo broken; exit 3"), []step{{want: failed(pod{
			Phase: corev1.PodFailed, Task: container{State: failedState, Log: "broken\n", Message: lines(488, 1000)},
		})}}},
		{"several containers share the room", newJob(namespace, writesLines+" > /dev/termination-log; echo done", withInit(""), func(spec *batchv1.JobSpec) {
			init := &spec.Template.Spec.InitContainers
			for index := range 3 {
				*init = append(*init, shell(fmt.Sprintf("more-%d", index), ""))
			}
		}), []step{{want: job{
			Phase: run.Succeeded, Began: true, Pods: []pod{{
				Phase: corev1.PodSucceeded, Init: container{State: completed},
				Task: container{State: completed, Log: "done\n", Message: lines(488, 1000)[:12<<10/5]},
			}},
		}}}},
		{"it is tried again", newJob(namespace, "echo broken; exit 3", func(spec *batchv1.JobSpec) { spec.BackoffLimit = new(int32(1)) }), []step{{want: failed(failedPod, failedPod)}}},
		{"its init container runs before", newJob(namespace, "echo done", withInit("echo first")), []step{{want: job{
			Phase: run.Succeeded, Began: true, Pods: []pod{{Phase: corev1.PodSucceeded, Init: container{State: completed, Log: "first\n"}, Task: container{State: completed, Log: "done\n"}}},
		}}}},
		{"its init container fails", newJob(namespace, "echo done", withInit("echo broken; exit 3")), []step{{want: failed(pod{
			Phase: corev1.PodFailed, Init: container{State: failedState, Log: "broken\n"}, Task: container{State: "Waiting PodInitializing"},
		})}}},
		{"while its init container runs, it waits", newJob(namespace, "echo done", withInit("echo begun; sleep 300")), []step{
			{want: job{Phase: run.Running, Began: true, Pods: []pod{{Phase: corev1.PodPending, Init: container{State: running, Log: "begun\n"}, Task: container{State: "Waiting PodInitializing"}}}}},
			{remove, gone},
		}},
		{"its command does not exist", newJob(namespace, "", func(spec *batchv1.JobSpec) {
			spec.Template.Spec.Containers[0].Command = []string{"/no/such/command"}
		}), []step{{want: failed(pod{Phase: corev1.PodFailed, Task: container{State: "Terminated 128 StartError"}})}}},
		{"suspended it waits, and runs when it is resumed", newJob(namespace, "echo done", suspendedFirst), []step{{want: suspended}, {resume, succeeded}}},
		{"suspended while it runs, its pod is gone; resumed, it runs from the beginning", newJob(namespace, "echo begun; sleep 300"), []step{
			{want: runs}, {suspend, job{Phase: run.Waiting, Began: true}}, {resume, runs}, {remove, gone},
		}},
		{"deleted while it runs, its pod is gone", newJob(namespace, "echo begun; sleep 300"), []step{{want: runs}, {remove, gone}}},
		{"deleted while it waits", newJob(namespace, "echo done", suspendedFirst), []step{{want: suspended}, {remove, gone}}},
		{"it expires once it is told to", newJob(namespace, "echo done"), []step{{want: succeeded}, {expire, gone}}},
		{"its pod's time limit leaves the pod, with its log", newJob(namespace, "trap 'exit 3' TERM; echo begun; sleep 300 & wait", func(spec *batchv1.JobSpec) {
			spec.Template.Spec.ActiveDeadlineSeconds = new(int64(3))
		}), []step{{want: failed(pod{
			Phase: corev1.PodFailed, Reason: deadlineExceeded, Message: "Pod was active on the node longer than the specified deadline", Task: container{State: failedState, Log: "begun\n"},
		})}}},
		{"its own time limit takes the pod away", newJob(namespace, "echo begun; sleep 300", func(spec *batchv1.JobSpec) {
			spec.ActiveDeadlineSeconds = new(int64(3))
		}), []step{{want: job{Phase: run.Failed, Reason: deadlineExceeded, Message: "Job was active longer than specified deadline", Began: true}}}},
		{"its pod is deleted by others", newJob(namespace, "echo begun; sleep 300"), []step{{want: runs}, {removePods(client), failed()}}},
		{"its pod is deleted by others, and it is tried again", newJob(namespace, "echo begun; sleep 300", ignoringDisruptions, func(spec *batchv1.JobSpec) { spec.BackoffLimit = new(int32(1)) }), []step{
			{want: runs}, {replacePods(client), runs}, {removePods(client), failed()},
		}},
		{"its pod is evicted", newJob(namespace, "echo begun; sleep 300"), []step{{want: runs}, {evictPods(client), failed()}}},
		{"its pod is evicted, which does not count", newJob(namespace, "echo begun; sleep 300", ignoringDisruptions), []step{
			{want: runs}, {evictPods(client), runs}, {evictPods(client), runs}, {remove, gone},
		}},
		{"a sidecar keeps running after the task", newJob(namespace, "echo done", withSidecar("echo begun; sleep 300")), []step{
			{want: job{Phase: run.Running, Began: true, Pods: []pod{{
				Phase: corev1.PodRunning, Task: container{State: completed, Log: "done\n"}, Sidecar: container{State: running, Log: "begun\n"},
			}}}},
			{remove, gone},
		}},
		{"a sidecar keeps running until the pod's time limit", newJob(namespace, "echo done", withSidecar("trap 'exit 3' TERM; echo begun; sleep 300 & wait"), func(spec *batchv1.JobSpec) {
			spec.Template.Spec.ActiveDeadlineSeconds = new(int64(3))
		}), []step{{want: failed(pod{
			Phase: corev1.PodFailed, Reason: deadlineExceeded, Message: "Pod was active on the node longer than the specified deadline",
			Task: container{State: completed, Log: "done\n"}, Sidecar: container{State: failedState, Log: "begun\n"},
		})}}},
		{"a sidecar fails before the task has succeeded", newJob(namespace, "sleep 2; echo done", withSidecar("echo broken; exit 3")), []step{{want: failed(pod{
			Phase: corev1.PodFailed, Task: container{State: completed, Log: "done\n"}, Sidecar: container{State: failedState, Log: "broken\n"},
		})}}},
		{"a native sidecar ends after the task", newJob(namespace, "sleep 2; echo done", withNativeSidecar("trap 'exit 0' TERM; echo begun; sleep 300 & wait")), []step{{want: job{
			Phase: run.Succeeded, Began: true, Pods: []pod{{
				Phase: corev1.PodSucceeded, Task: container{State: completed, Log: "done\n"}, Sidecar: container{State: completed, Log: "begun\n"},
			}},
		}}}},
		{"its pod is refused", newJob(namespace, "echo done", func(spec *batchv1.JobSpec) { spec.Template.Spec.ServiceAccountName = MissingAccount }), []step{
			{want: job{Phase: run.Running, Began: true}}, {remove, gone},
		}},
		{"there is no node for its pod", newJob(namespace, "echo done", func(spec *batchv1.JobSpec) {
			spec.Template.Spec.NodeSelector = map[string]string{MissingNode: ""}
		}), []step{
			{want: job{Phase: run.Running, Began: true, Pods: []pod{{Phase: corev1.PodPending, Unscheduled: corev1.PodReasonUnschedulable}}}}, {remove, gone},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			stored := &store.Jobs{Client: clientset.Of(client), Namespaces: []string{namespace}}
			if _, err := stored.Create(t.Context(), test.job); err != nil {
				t.Fatal(err)
			}
			for index, step := range test.steps {
				if step.do != nil {
					current, err := client.BatchV1().Jobs(namespace).Get(t.Context(), test.job.Name, metav1.GetOptions{})
					if err != nil {
						t.Fatal(err)
					}
					if err := step.do(t.Context(), stored, current); err != nil {
						t.Fatal(err)
					}
				}
				err := console.Eventually(t.Context(), jobLimit, func(ctx context.Context) error {
					got, err := look(ctx, client, namespace, test.job.Name)
					if difference := cmp.Diff(step.want, got); err == nil && difference != "" {
						err = fmt.Errorf("step %d (-want +got):\n%s", index, difference)
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	t.Run("Jobs are refused as the API server does", func(t *testing.T) { testRefusals(t, client, namespace) })
	t.Run("Jobs are refused as the parser does", func(t *testing.T) { TestVerdicts(t, client, namespace) })
	t.Run("pods are tried without effect", func(t *testing.T) { testTries(t, client, namespace) })
	t.Run("calls fail as the API server has them fail", func(t *testing.T) { testFailures(t, client, namespace) })
}

// look reads the view of a Job and its pods.
func look(ctx context.Context, client kubernetes.Interface, namespace, name string) (job, error) {
	var view job
	found, err := client.BatchV1().Jobs(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil:
		view.Phase, view.Began = run.PhaseOf(found), found.Status.StartTime != nil
		view.Reason, view.Message = run.FailureOf(found)
	case !apierrors.IsNotFound(err):
		return job{}, err
	}
	reader := &store.Pods{Client: clientset.Of(client)}
	pods, err := reader.List(ctx, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
	if err != nil {
		return job{}, err
	}
	for index := range pods {
		found := &pods[index]
		seen := pod{Phase: found.Status.Phase, Reason: found.Status.Reason, Message: found.Status.Message}
		for _, condition := range found.Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
				seen.Unscheduled = condition.Reason
			}
		}
		for _, status := range slices.Concat(found.Status.InitContainerStatuses, found.Status.ContainerStatuses) {
			var log strings.Builder
			err := reader.Log(ctx, found, status.Name, &log)
			if err != nil && !apierrors.IsBadRequest(err) && !apierrors.IsNotFound(err) {
				return job{}, err
			}
			var target *container
			switch status.Name {
			case run.TaskContainer:
				target = &seen.Task
			case run.FetcherContainer:
				target = &seen.Init
			case sidecar:
				target = &seen.Sidecar
			default:
				continue
			}
			*target = container{State: stateOf(status.State), Log: log.String()}
			if terminated := status.State.Terminated; terminated != nil && terminated.Reason != startError {
				target.Message = terminated.Message
			}
		}
		view.Pods = append(view.Pods, seen)
	}
	return view, nil
}

func stateOf(state corev1.ContainerState) string {
	switch {
	case state.Running != nil:
		return running
	case state.Terminated != nil:
		return fmt.Sprintf("Terminated %d %s", state.Terminated.ExitCode, state.Terminated.Reason)
	case state.Waiting != nil:
		return "Waiting " + state.Waiting.Reason
	default:
		return ""
	}
}

// testRefusals creates valid and invalid Jobs.
func testRefusals(t *testing.T, client kubernetes.Interface, namespace string) {
	t.Helper()
	task := func(change func(*corev1.Container)) func(*batchv1.Job) {
		return func(job *batchv1.Job) { change(&job.Spec.Template.Spec.Containers[0]) }
	}
	environment := func(name string) func(*batchv1.Job) {
		return task(func(container *corev1.Container) { container.Env = []corev1.EnvVar{{Name: name}} })
	}
	resources := func(request, limit string) func(*batchv1.Job) {
		return task(func(container *corev1.Container) {
			container.Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(request)}
			container.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(limit)}
		})
	}
	secured := func(security corev1.SecurityContext) func(*batchv1.Job) {
		return task(func(container *corev1.Container) { container.SecurityContext = &security })
	}
	tests := map[string]struct {
		change  func(*batchv1.Job)
		refused bool
	}{
		"as it is":                           {func(*batchv1.Job) {}, false},
		"a variable with a blank":            {environment("A B"), false},
		"a variable that is no C name":       {environment("1-A.b"), false},
		"a variable with an equals sign":     {environment("A=B"), true},
		"a variable without a name":          {environment(""), true},
		"a variable with an umlaut":          {environment("Ä"), true},
		"a request over the limit":           {resources("2Gi", "1Gi"), true},
		"a request like the limit":           {resources("1Gi", "1Gi"), false},
		"privileged, and no more privileges": {secured(corev1.SecurityContext{Privileged: new(true), AllowPrivilegeEscalation: new(false)}), true},
		"a user below 0":                     {secured(corev1.SecurityContext{RunAsUser: new(int64(-1))}), true},
		"an image with a blank before it":    {task(func(container *corev1.Container) { container.Image = " busybox" }), false},
		"a deadline below 0":                 {func(job *batchv1.Job) { job.Spec.ActiveDeadlineSeconds = new(int64(-1)) }, true},
		"a label that is too long":           {func(job *batchv1.Job) { job.Labels["x"] = strings.Repeat("x", 64) }, true},
		"a label with a blank":               {func(job *batchv1.Job) { job.Labels["x"] = "a b" }, true},
		"annotations that are too large":     {func(job *batchv1.Job) { job.Annotations = map[string]string{"x": strings.Repeat("x", 256<<10)} }, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			job := newJob(namespace, "echo done", suspendedFirst)
			test.change(job)
			_, err := client.BatchV1().Jobs(namespace).Create(t.Context(), job, metav1.CreateOptions{})
			if apierrors.IsInvalid(err) != test.refused || err != nil && !test.refused {
				t.Errorf("got %v", err)
			}
			if err == nil {
				if err := client.BatchV1().Jobs(namespace).Delete(t.Context(), job.Name, metav1.DeleteOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// testTries creates pods in a dry run in a namespace that enforces pod security "baseline".
func testTries(t *testing.T, client kubernetes.Interface, namespace string) {
	t.Helper()
	adding := func(capability corev1.Capability) *corev1.SecurityContext {
		return &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{capability}}}
	}
	tests := map[string]struct {
		context *corev1.SecurityContext
		refused bool
	}{
		"as it is":                   {nil, false},
		"root":                       {&corev1.SecurityContext{RunAsUser: new(int64(0))}, false},
		"a capability of containers": {adding("CHOWN"), false},
		"one of nodes":               {adding("NET_ADMIN"), true},
		"privileged":                 {&corev1.SecurityContext{Privileged: new(true)}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{GenerateName: "tried-", Labels: map[string]string{"tried": "yes"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: run.TaskContainer, Image: "busybox", SecurityContext: test.context}}},
			}
			_, err := client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if apierrors.IsForbidden(err) != test.refused || err != nil && !strings.Contains(err.Error(), "violates PodSecurity \"baseline:latest\": ") {
				t.Errorf("got %v", err)
			}
			pods, err := client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "tried"})
			if err != nil || len(pods.Items) > 0 {
				t.Errorf("there are %d pods, %v", len(pods.Items), err)
			}
		})
	}
}

// testFailures makes failing calls and compares the errors.
func testFailures(t *testing.T, client kubernetes.Interface, namespace string) {
	t.Helper()
	ctx, jobs := t.Context(), client.BatchV1().Jobs(namespace)
	built, err := jobs.Create(ctx, newJob(namespace, "echo done", suspendedFirst), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	again := newJob(namespace, "true")
	again.Name = built.Name
	_, created := jobs.Create(ctx, again, metav1.CreateOptions{})
	_, got := jobs.Get(ctx, "missing", metav1.GetOptions{})
	_, another := jobs.Patch(ctx, built.Name, types.MergePatchType, []byte(`{"metadata":{"uid":"another"},"spec":{"suspend":false}}`), metav1.PatchOptions{})
	_, patched := jobs.Patch(ctx, "missing", types.MergePatchType, []byte(`{"spec":{"suspend":false}}`), metav1.PatchOptions{})
	deleted := jobs.Delete(ctx, "missing", metav1.DeleteOptions{})
	_, read := client.CoreV1().Pods(namespace).GetLogs("missing", &corev1.PodLogOptions{}).DoRaw(ctx)
	reasons := map[string]metav1.StatusReason{}
	for name, err := range map[string]error{"create again": created, "get": got, "patch another": another, "patch": patched, "delete": deleted, "log": read} {
		var status apierrors.APIStatus
		if !errors.As(err, &status) {
			t.Errorf("%s: %v is not an API server's error", name, err)
			continue
		}
		reasons[name] = apierrors.ReasonForError(err)
	}
	want := map[string]metav1.StatusReason{
		"create again": metav1.StatusReasonAlreadyExists, "get": metav1.StatusReasonNotFound, "patch another": metav1.StatusReasonInvalid,
		"patch": metav1.StatusReasonNotFound, "delete": metav1.StatusReasonNotFound, "log": metav1.StatusReasonNotFound,
	}
	if difference := cmp.Diff(want, reasons); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
	list, err := jobs.List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=conformance"})
	if err != nil || !slices.ContainsFunc(list.Items, func(job batchv1.Job) bool { return job.Name == built.Name }) {
		t.Errorf("%s is not among the Jobs with its label: %v", built.Name, err)
	}
	if err := jobs.Delete(ctx, built.Name, metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}
