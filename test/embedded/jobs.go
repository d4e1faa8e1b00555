package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	defaultBackoffLimit = 6
	// backoff is the Job controller's pause before it replaces a pod. It doubles.
	backoff = 10 * time.Second
	// deadlineReason is the reason of a Job and a pod after their deadline.
	deadlineReason  = "DeadlineExceeded"
	deadlineMessage = "Job was active longer than specified deadline"
	// startError is the kubelet's reason for a container that could not start.
	startError     = "StartError"
	startErrorCode = 128
	podSuffix      = 5
)

// managed is a Job with its own goroutine.
type managed struct {
	namespace, name string
	uid             types.UID
	// change and podDeleted have room for one notification: of a changed Job, and of a deleted or evicted pod.
	change     chan struct{}
	podDeleted chan removal
}

// removal is how a pod is removed.
type removal int

const (
	deletion removal = iota
	eviction
)

func (k *Kubernetes) manage(job *batchv1.Job) {
	handle := &managed{namespace: job.Namespace, name: job.Name, uid: job.UID, change: make(chan struct{}, 1), podDeleted: make(chan removal, 1)}
	k.mutex.Lock()
	k.jobs[job.UID] = handle
	k.mutex.Unlock()
	k.group.Go(func() {
		k.control(k.options.Context, handle)
		k.mutex.Lock()
		delete(k.jobs, handle.uid)
		k.mutex.Unlock()
	})
}

func (k *Kubernetes) changed(uid types.UID) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if handle := k.jobs[uid]; handle != nil {
		select {
		case handle.change <- struct{}{}:
		default:
		}
	}
}

// read returns a Job's current state, nil if it is gone.
func (k *Kubernetes) read(handle *managed) *batchv1.Job {
	job, err := k.job(handle.namespace, handle.name)
	if err != nil || job.UID != handle.uid {
		return nil
	}
	return job
}

// status changes the status of an existing Job.
func (k *Kubernetes) status(handle *managed, change func(job *batchv1.Job)) {
	k.writes.Lock()
	defer k.writes.Unlock()
	if job := k.read(handle); job != nil {
		change(job)
		_ = k.tracker.Update(jobsResource, job, job.Namespace) // it exists
	}
}

func (k *Kubernetes) setCondition(job *batchv1.Job, kind batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string) {
	condition := batchv1.JobCondition{
		Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: k.now(), LastProbeTime: k.now(),
	}
	for index := range job.Status.Conditions {
		if job.Status.Conditions[index].Type == kind {
			job.Status.Conditions[index] = condition
			return
		}
	}
	job.Status.Conditions = append(job.Status.Conditions, condition)
}

// control acts on one Job like the Job controller, the TTL controller and the garbage collector.
func (k *Kubernetes) control(ctx context.Context, handle *managed) {
	failures := 0
	for ctx.Err() == nil {
		k.client.ClearActions() // the fake clientset records all actions
		job := k.read(handle)
		switch {
		case job == nil:
			k.deletePods(ctx, handle)
			return
		case isSuspended(job):
			k.suspend(handle, job)
			k.await(ctx, handle, 0)
		default:
			ended := k.attempt(ctx, handle, job, &failures)
			if ended {
				k.expire(ctx, handle)
				return
			}
		}
	}
}

func isSuspended(job *batchv1.Job) bool { return job.Spec.Suspend != nil && *job.Spec.Suspend }

// await waits for a change of the Job, with a limit unless it is 0. It reports whether there was one.
func (k *Kubernetes) await(ctx context.Context, handle *managed, most time.Duration) bool {
	var timeout <-chan time.Time
	if most > 0 {
		timer := time.NewTimer(most)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-handle.change:
		return true
	case <-timeout:
		return false
	}
}

func (k *Kubernetes) suspend(handle *managed, job *batchv1.Job) {
	for _, condition := range job.Status.Conditions {
		if condition.Type == batchv1.JobSuspended && condition.Status == corev1.ConditionTrue {
			return
		}
	}
	k.status(handle, func(job *batchv1.Job) {
		k.setCondition(job, batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended")
		job.Status.Active, job.Status.Ready = 0, new(int32(0)) // the start time remains until it is resumed
	})
}

// attempt runs one pod of a Job and reports whether the Job has ended.
func (k *Kubernetes) attempt(ctx context.Context, handle *managed, job *batchv1.Job, failures *int) (ended bool) {
	k.sleep(ctx, handle, k.options.Delay("start", job.Name))
	k.status(handle, func(job *batchv1.Job) {
		resumed := slices.ContainsFunc(job.Status.Conditions, func(condition batchv1.JobCondition) bool {
			return condition.Type == batchv1.JobSuspended && condition.Status == corev1.ConditionTrue
		})
		if resumed {
			k.setCondition(job, batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed")
		}
		if resumed || job.Status.StartTime == nil {
			started := k.now()
			job.Status.StartTime = &started
		}
		job.Status.Active = 1
	})
	job = k.read(handle)
	if job == nil || isSuspended(job) {
		return false
	}
	fate := k.options.Fate(job)
	result, kill := k.startPod(ctx, job, fate)
	defer kill(false)
	var deadline <-chan time.Time
	if job.Spec.ActiveDeadlineSeconds != nil {
		timer := time.NewTimer(k.until(job.Status.StartTime.Add(time.Duration(*job.Spec.ActiveDeadlineSeconds) * time.Second)))
		defer timer.Stop()
		deadline = timer.C
	}
	for {
		select {
		case <-handle.change:
			current := k.read(handle)
			if current != nil && !isSuspended(current) {
				continue
			}
			kill(true)
			return false
		case how := <-handle.podDeleted:
			kill(true)
			if how == eviction && ignoresDisruptions(job) {
				return false
			}
			return k.settle(ctx, handle, job, false, failures)
		case <-deadline:
			if fate == NodeLost {
				k.status(handle, func(job *batchv1.Job) {
					k.setCondition(job, batchv1.JobFailureTarget, corev1.ConditionTrue, deadlineReason, deadlineMessage)
				})
				k.sleep(ctx, handle, k.options.Delay("return of the node", job.Name))
			}
			kill(true)
			k.fail(handle, deadlineReason, deadlineMessage)
			return true
		case succeeded := <-result:
			if ctx.Err() != nil {
				return false
			}
			return k.settle(ctx, handle, job, succeeded, failures)
		}
	}
}

// ignoresDisruptions reports whether a Job does not count pods that are evicted.
func ignoresDisruptions(job *batchv1.Job) bool {
	return job.Spec.PodFailurePolicy != nil && slices.ContainsFunc(job.Spec.PodFailurePolicy.Rules, func(rule batchv1.PodFailurePolicyRule) bool {
		return rule.Action == batchv1.PodFailurePolicyActionIgnore &&
			slices.ContainsFunc(rule.OnPodConditions, func(pattern batchv1.PodFailurePolicyOnPodConditionsPattern) bool {
				return pattern.Type == corev1.DisruptionTarget
			})
	})
}

// startPod starts a pod unless it is rejected. Kill ends the pod, and deletes it if requested.
func (k *Kubernetes) startPod(ctx context.Context, job *batchv1.Job, fate Fate) (result chan bool, kill func(deletes bool)) {
	if fate == Refused {
		return nil, func(bool) {}
	}
	pod := k.newPod(job)
	if fate == Unschedulable || fate == Unpullable {
		pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses = nil, nil
		if fate == Unschedulable {
			pod.Spec.NodeName = ""
			pod.Status.Conditions = []corev1.PodCondition{{
				Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/1 nodes are available",
			}}
		} else {
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: pod.Spec.Containers[0].Name, State: corev1.ContainerState{
				Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "manifest unknown"},
			}}}
		}
		k.update(pod)
		return nil, func(deletes bool) {
			if deletes {
				k.deletePod(pod)
			}
		}
	}
	k.options.Started(job)
	podCtx, stop := context.WithCancel(ctx)
	result, done := make(chan bool, 1), make(chan struct{})
	k.group.Go(func() {
		defer close(done)
		result <- k.kubelet(podCtx, job, pod)
	})
	return result, func(deletes bool) {
		stop()
		if deletes {
			<-done
			k.deletePod(pod)
		}
	}
}

// settle records the end of a pod.
func (k *Kubernetes) settle(ctx context.Context, handle *managed, job *batchv1.Job, succeeded bool, failures *int) (ended bool) {
	k.sleep(ctx, handle, k.options.Delay("settle", job.Name))
	if succeeded {
		const reason, message = "CompletionsReached", "Reached expected number of succeeded pods"
		k.status(handle, func(job *batchv1.Job) {
			job.Status.Active, job.Status.Ready, job.Status.Succeeded = 0, new(int32(0)), 1
			k.setCondition(job, batchv1.JobSuccessCriteriaMet, corev1.ConditionTrue, reason, message)
			k.setCondition(job, batchv1.JobComplete, corev1.ConditionTrue, reason, message)
			job.Status.CompletionTime = new(k.now())
		})
		return true
	}
	*failures++
	if *failures > int(*job.Spec.BackoffLimit) {
		k.fail(handle, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
		return true
	}
	k.status(handle, func(job *batchv1.Job) { job.Status.Active, job.Status.Failed = 0, int32(*failures) }) //nolint:gosec // a few
	k.sleep(ctx, handle, backoff<<(*failures-1))
	return false
}

// sleep waits until the Job changes, up to a limit.
func (k *Kubernetes) sleep(ctx context.Context, handle *managed, most time.Duration) {
	until := time.Now().Add(most)
	for most > 0 && k.await(ctx, handle, most) {
		if current := k.read(handle); current == nil || isSuspended(current) {
			return
		}
		most = time.Until(until)
	}
}

func (k *Kubernetes) fail(handle *managed, reason, message string) {
	k.status(handle, func(job *batchv1.Job) {
		job.Status.Active, job.Status.Ready, job.Status.Failed = 0, new(int32(0)), job.Status.Failed+1
		k.setCondition(job, batchv1.JobFailureTarget, corev1.ConditionTrue, reason, message)
		k.setCondition(job, batchv1.JobFailed, corev1.ConditionTrue, reason, message)
	})
}

// expire waits until an ended Job is deleted, or deletes it after its TTL.
func (k *Kubernetes) expire(ctx context.Context, handle *managed) {
	for ctx.Err() == nil {
		job := k.read(handle)
		if job == nil {
			k.deletePods(ctx, handle)
			return
		}
		if job.Spec.TTLSecondsAfterFinished == nil {
			k.await(ctx, handle, 0)
			continue
		}
		left := k.until(ended(job).Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second))
		if left <= 0 {
			k.remove(job)
			continue
		}
		k.await(ctx, handle, left)
	}
}

func ended(job *batchv1.Job) time.Time {
	return job.Status.Conditions[len(job.Status.Conditions)-1].LastTransitionTime.Time
}

func (k *Kubernetes) newPod(job *batchv1.Job) *corev1.Pod {
	template := job.Spec.Template.DeepCopy()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: job.Namespace, Name: job.Name + "-" + k.options.NewID()[:podSuffix], UID: types.UID(k.options.NewID()),
			Labels: template.Labels, Annotations: template.Annotations, CreationTimestamp: k.now(),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))},
		},
		Spec:   template.Spec,
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	pod.Spec.NodeName = "node"
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	reason := "ContainerCreating"
	for _, container := range pod.Spec.InitContainers {
		reason = "PodInitializing"
		pod.Status.InitContainerStatuses = append(pod.Status.InitContainerStatuses, corev1.ContainerStatus{Name: container.Name, Image: container.Image, State: waiting(reason)})
	}
	for _, container := range pod.Spec.Containers {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{Name: container.Name, Image: container.Image, State: waiting(reason)})
	}
	_ = k.tracker.Create(podsResource, pod, pod.Namespace) // its name is random
	k.index(&pod.ObjectMeta, true)
	return pod
}

func (k *Kubernetes) deletePod(pod *corev1.Pod) {
	_ = k.tracker.Delete(podsResource, pod.Namespace, pod.Name)
	k.index(&pod.ObjectMeta, false)
	k.mutex.Lock()
	defer k.mutex.Unlock()
	for _, status := range append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...) {
		delete(k.logs, logKey{pod.Namespace, pod.Name, status.Name})
	}
}

func (k *Kubernetes) deletePods(ctx context.Context, handle *managed) {
	list, err := k.client.CoreV1().Pods(handle.namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + handle.name})
	if err != nil {
		return
	}
	for index := range list.Items {
		if metav1.GetControllerOf(&list.Items[index]).UID == handle.uid {
			k.deletePod(&list.Items[index])
		}
	}
}

// kubelet runs a pod's containers and reports whether all succeeded.
func (k *Kubernetes) kubelet(ctx context.Context, job *batchv1.Job, pod *corev1.Pod) (succeeded bool) {
	directory := filepath.Join(k.options.Directory, pod.Name)
	if k.options.Directory != "" {
		defer func() { _ = os.RemoveAll(directory) }()
		if err := os.MkdirAll(directory, 0o755); err != nil {
			k.failPod(pod, "Error", err.Error())
			return false
		}
	}
	if seconds := pod.Spec.ActiveDeadlineSeconds; seconds != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(*seconds)*time.Second, errDeadline)
		defer cancel()
	}
	running := &runningPod{cluster: k, job: job, Pod: pod, directory: directory}
	running.change(func() { pod.Status.StartTime = new(k.now()) })
	sidecars, stopSidecars := context.WithCancel(ctx)
	var native sync.WaitGroup
	end := func() {
		stopSidecars()
		native.Wait()
	}
	defer end()
	for index := range pod.Spec.InitContainers {
		container, status := &pod.Spec.InitContainers[index], &pod.Status.InitContainerStatuses[index]
		if container.RestartPolicy != nil && *container.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			native.Go(func() { running.run(sidecars, container, status) })
			continue
		}
		if code := running.run(ctx, container, status); code != 0 || ctx.Err() != nil {
			return running.end(ctx, false)
		}
	}
	var group sync.WaitGroup
	codes := make([]int, len(pod.Spec.Containers))
	for index := range pod.Spec.Containers {
		group.Go(func() {
			codes[index] = running.run(ctx, &pod.Spec.Containers[index], &pod.Status.ContainerStatuses[index])
		})
	}
	group.Wait()
	end()
	return running.end(ctx, !slices.ContainsFunc(codes, func(code int) bool { return code != 0 }))
}

// runningPod is a pod with concurrent containers.
type runningPod struct {
	cluster *Kubernetes
	job     *batchv1.Job
	*corev1.Pod

	directory string
	mutex     sync.Mutex
}

// change changes the pod's status.
func (r *runningPod) change(change func()) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	change()
	r.cluster.update(r.Pod)
}

// end records how a pod ended, unless it is gone.
func (r *runningPod) end(ctx context.Context, succeeded bool) bool {
	switch {
	case errors.Is(context.Cause(ctx), errDeadline):
		r.cluster.failPod(r.Pod, deadlineReason, "Pod was active on the node longer than the specified deadline")
		return false
	case ctx.Err() != nil:
		return false
	case !succeeded:
		r.cluster.failPod(r.Pod, "", "")
		return false
	}
	r.change(func() { r.Status.Phase = corev1.PodSucceeded })
	return true
}

var errDeadline = errors.New("deadline")

func (k *Kubernetes) failPod(pod *corev1.Pod, reason, message string) {
	pod.Status.Phase, pod.Status.Reason, pod.Status.Message = corev1.PodFailed, reason, message
	k.update(pod)
}

func (k *Kubernetes) update(pod *corev1.Pod) {
	_ = k.tracker.Update(podsResource, pod.DeepCopy(), pod.Namespace) // unless it is gone
}

// run runs one container and returns its exit code.
func (r *runningPod) run(ctx context.Context, container *corev1.Container, status *corev1.ContainerStatus) int {
	cluster := r.cluster
	select {
	case <-ctx.Done():
	case <-time.After(cluster.options.Delay("create", r.Name+" "+container.Name)):
	}
	environment, err := cluster.environment(ctx, r.Namespace, container)
	var projected map[string]string
	if err == nil {
		projected, err = cluster.project(r.Pod, container, r.directory)
	}
	defer func() {
		for _, place := range projected {
			_ = os.RemoveAll(place)
		}
	}()
	log := &containerLog{}
	cluster.mutex.Lock()
	cluster.logs[logKey{r.Namespace, r.Name, container.Name}] = log
	cluster.mutex.Unlock()
	started := cluster.now()
	isInit := slices.ContainsFunc(r.Spec.InitContainers, func(init corev1.Container) bool { return init.Name == container.Name })
	r.change(func() {
		status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: started}}
		if !isInit {
			r.Status.Phase = corev1.PodRunning
		}
	})
	if !isInit {
		cluster.status(&managed{namespace: r.job.Namespace, name: r.job.Name, uid: r.job.UID}, func(job *batchv1.Job) { job.Status.Ready = new(int32(1)) })
	}
	terminated := &corev1.ContainerStateTerminated{StartedAt: started, Reason: "Completed"}
	if err == nil {
		expanded := func(words []string) (all []string) {
			for _, word := range words {
				all = append(all, expand(word, environment))
			}
			return all
		}
		mountPath := ""
		if len(container.VolumeMounts) > 0 {
			mountPath = container.VolumeMounts[0].MountPath
		}
		terminationLog := r.directory + "." + container.Name + ".termination-log"
		var code int
		reported := ""
		code, err = cluster.options.Runtime.Run(ctx, Container{
			Job: r.job.Name, Name: container.Name, Image: container.Image, Command: expanded(container.Command), Arguments: expanded(container.Args),
			Environment: environment, WorkingDir: container.WorkingDir, Directory: r.directory, MountPath: mountPath, Projected: projected,
			TerminationLog: terminationLog, Terminate: func(message string) { reported = message }, Output: log,
		})
		terminated.ExitCode = int32(code)                            //nolint:gosec // of a process
		if content, err := os.ReadFile(terminationLog); err == nil { //nolint:gosec // our own
			reported = string(content)
		}
		terminated.Message = terminationMessage(r.Pod, reported)
	}
	if err != nil {
		terminated.ExitCode, terminated.Reason, terminated.Message = startErrorCode, startError, err.Error()
		terminated.StartedAt = metav1.Unix(0, 0) // the kubelet's value for a container that never ran
	} else if terminated.ExitCode != 0 {
		terminated.Reason = "Error"
	}
	terminated.FinishedAt = cluster.now()
	r.change(func() { status.State = corev1.ContainerState{Terminated: terminated} })
	return int(terminated.ExitCode)
}

// project writes the tokens that a container mounts, and returns their directories.
func (k *Kubernetes) project(pod *corev1.Pod, container *corev1.Container, directory string) (map[string]string, error) {
	projected := map[string]string{}
	if k.options.Directory == "" {
		return projected, nil
	}
	for _, volume := range pod.Spec.Volumes {
		mounted := slices.IndexFunc(container.VolumeMounts, func(mount corev1.VolumeMount) bool { return mount.Name == volume.Name })
		if volume.Projected == nil || mounted < 0 {
			continue
		}
		place := directory + "." + volume.Name
		if err := os.MkdirAll(place, 0o700); err != nil {
			return nil, fmt.Errorf("create a directory for a token: %w", err)
		}
		for _, source := range volume.Projected.Sources {
			token := podToken(pod.Namespace, pod.Spec.ServiceAccountName, pod.Name)
			if err := os.WriteFile(filepath.Join(place, source.ServiceAccountToken.Path), []byte(token), 0o600); err != nil {
				return nil, fmt.Errorf("write a token: %w", err)
			}
		}
		projected[container.VolumeMounts[mounted].MountPath] = place
	}
	return projected, nil
}

// terminationMessage returns the part of a termination log that the kubelet keeps: the last 4 KiB, and of those
// the beginning, so that all containers of a pod have at most 12 KiB (kubelet/kuberuntime,
// getTerminationMessage; kubelet/status, normalizeStatus).
func terminationMessage(pod *corev1.Pod, content string) string {
	const ofFile, ofPod = 4096, 12 << 10
	message := content[max(0, len(content)-ofFile):]
	return message[:min(len(message), ofPod/(len(pod.Spec.InitContainers)+len(pod.Spec.Containers)))]
}

// environment resolves a container's variables.
func (k *Kubernetes) environment(ctx context.Context, namespace string, container *corev1.Container) (map[string]string, error) {
	environment := map[string]string{}
	for _, source := range container.EnvFrom {
		secret, err := k.client.CoreV1().Secrets(namespace).Get(ctx, source.SecretRef.Name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("variables of a Secret: %w", err)
		}
		for name, value := range secret.Data {
			environment[name] = string(value)
		}
	}
	for _, variable := range container.Env {
		if variable.ValueFrom == nil {
			environment[variable.Name] = expand(variable.Value, maps.Clone(environment))
			continue
		}
		if reference := variable.ValueFrom.ConfigMapKeyRef; reference != nil {
			found, err := k.client.CoreV1().ConfigMaps(namespace).Get(ctx, reference.Name, metav1.GetOptions{})
			if err != nil {
				return nil, fmt.Errorf("variable %s: %w", variable.Name, err)
			}
			environment[variable.Name] = found.Data[reference.Key]
			continue
		}
		reference := variable.ValueFrom.SecretKeyRef
		if reference == nil {
			return nil, fmt.Errorf("variable %s comes neither from a value nor from a Secret", variable.Name)
		}
		secret, err := k.client.CoreV1().Secrets(namespace).Get(ctx, reference.Name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", variable.Name, err)
		}
		environment[variable.Name] = string(secret.Data[reference.Key])
	}
	return environment, nil
}

// log returns a container's log, nil if it has not run.
func (k *Kubernetes) log(key logKey) ([]byte, error) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if _, err := k.tracker.Get(podsResource, key.namespace, key.pod); err != nil {
		return nil, apierrors.NewNotFound(podsResource.GroupResource(), key.pod)
	}
	log := k.logs[key]
	if log == nil {
		return nil, nil
	}
	return log.read(), nil
}
