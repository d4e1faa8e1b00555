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
	// backoff is the Job controller's pause before a pod is replaced; it doubles.
	backoff = 10 * time.Second
	// deadlineReason is what a Job and a pod that took too long are given.
	deadlineReason  = "DeadlineExceeded"
	deadlineMessage = "Job was active longer than specified deadline"
	// startError is what the kubelet gives a container that could not be started.
	startError     = "StartError"
	startErrorCode = 128
	podSuffix      = 5
)

// managed is a Job that is looked after, by one goroutine.
type managed struct {
	namespace, name string
	uid             types.UID
	// change and podDeleted have room for one notice: that the Job was changed, and that
	// others delete its pod, or evict it.
	change     chan struct{}
	podDeleted chan removal
}

// removal is how others remove a pod.
type removal int

const (
	deletion removal = iota
	eviction
)

func (cluster *Kubernetes) manage(job *batchv1.Job) {
	made := &managed{namespace: job.Namespace, name: job.Name, uid: job.UID, change: make(chan struct{}, 1), podDeleted: make(chan removal, 1)}
	cluster.mutex.Lock()
	cluster.jobs[job.UID] = made
	cluster.mutex.Unlock()
	cluster.group.Go(func() {
		cluster.control(cluster.options.Context, made)
		cluster.mutex.Lock()
		delete(cluster.jobs, made.uid)
		cluster.mutex.Unlock()
	})
}

func (cluster *Kubernetes) changed(uid types.UID) {
	cluster.mutex.Lock()
	defer cluster.mutex.Unlock()
	if made := cluster.jobs[uid]; made != nil {
		select {
		case made.change <- struct{}{}:
		default:
		}
	}
}

// read returns a Job as it is now, nil if it is gone.
func (cluster *Kubernetes) read(made *managed) *batchv1.Job {
	job, err := cluster.job(made.namespace, made.name)
	if err != nil || job.UID != made.uid {
		return nil
	}
	return job
}

// status changes the status of a Job that is still there.
func (cluster *Kubernetes) status(made *managed, change func(job *batchv1.Job)) {
	cluster.writes.Lock()
	defer cluster.writes.Unlock()
	if job := cluster.read(made); job != nil {
		change(job)
		_ = cluster.tracker.Update(jobsResource, job, job.Namespace) // it is there
	}
}

func (cluster *Kubernetes) setCondition(job *batchv1.Job, kind batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string) {
	condition := batchv1.JobCondition{
		Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: cluster.now(), LastProbeTime: cluster.now(),
	}
	for index := range job.Status.Conditions {
		if job.Status.Conditions[index].Type == kind {
			job.Status.Conditions[index] = condition
			return
		}
	}
	job.Status.Conditions = append(job.Status.Conditions, condition)
}

// control does for one Job what the Job controller, the TTL controller and the
// garbage collector do.
func (cluster *Kubernetes) control(ctx context.Context, made *managed) {
	failures := 0
	for ctx.Err() == nil {
		cluster.client.ClearActions() // the fake clientset keeps them all
		job := cluster.read(made)
		switch {
		case job == nil:
			cluster.deletePods(ctx, made)
			return
		case isSuspended(job):
			cluster.suspend(made, job)
			cluster.await(ctx, made, 0)
		default:
			ended := cluster.attempt(ctx, made, job, &failures)
			if ended {
				cluster.expire(ctx, made)
				return
			}
		}
	}
}

func isSuspended(job *batchv1.Job) bool { return job.Spec.Suspend != nil && *job.Spec.Suspend }

// await waits for a change of the Job, for a time unless that is 0; it says
// whether there was one.
func (cluster *Kubernetes) await(ctx context.Context, made *managed, most time.Duration) bool {
	var timeout <-chan time.Time
	if most > 0 {
		timer := time.NewTimer(most)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-made.change:
		return true
	case <-timeout:
		return false
	}
}

func (cluster *Kubernetes) suspend(made *managed, job *batchv1.Job) {
	for _, condition := range job.Status.Conditions {
		if condition.Type == batchv1.JobSuspended && condition.Status == corev1.ConditionTrue {
			return
		}
	}
	cluster.status(made, func(job *batchv1.Job) {
		cluster.setCondition(job, batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended")
		job.Status.Active, job.Status.Ready = 0, new(int32(0)) // when it began stays until it is resumed
	})
}

// attempt runs one pod of a Job and says whether the Job has ended with it.
func (cluster *Kubernetes) attempt(ctx context.Context, made *managed, job *batchv1.Job, failures *int) (ended bool) {
	cluster.sleep(ctx, made, cluster.options.Delay("start", job.Name))
	cluster.status(made, func(job *batchv1.Job) {
		resumed := slices.ContainsFunc(job.Status.Conditions, func(condition batchv1.JobCondition) bool {
			return condition.Type == batchv1.JobSuspended && condition.Status == corev1.ConditionTrue
		})
		if resumed {
			cluster.setCondition(job, batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed")
		}
		if resumed || job.Status.StartTime == nil {
			started := cluster.now()
			job.Status.StartTime = &started
		}
		job.Status.Active = 1
	})
	job = cluster.read(made)
	if job == nil || isSuspended(job) {
		return false
	}
	fate := cluster.options.Fate(job)
	result, kill := cluster.startPod(ctx, job, fate)
	defer kill(false)
	var deadline <-chan time.Time
	if job.Spec.ActiveDeadlineSeconds != nil {
		timer := time.NewTimer(cluster.until(job.Status.StartTime.Add(time.Duration(*job.Spec.ActiveDeadlineSeconds) * time.Second)))
		defer timer.Stop()
		deadline = timer.C
	}
	for {
		select {
		case <-made.change:
			current := cluster.read(made)
			if current != nil && !isSuspended(current) {
				continue
			}
			kill(true)
			return false
		case how := <-made.podDeleted:
			kill(true)
			if how == eviction && ignoresDisruptions(job) {
				return false
			}
			return cluster.settle(ctx, made, job, false, failures)
		case <-deadline:
			if fate == NodeLost {
				cluster.status(made, func(job *batchv1.Job) {
					cluster.setCondition(job, batchv1.JobFailureTarget, corev1.ConditionTrue, deadlineReason, deadlineMessage)
				})
				cluster.sleep(ctx, made, cluster.options.Delay("return of the node", job.Name))
			}
			kill(true)
			cluster.fail(made, deadlineReason, deadlineMessage)
			return true
		case succeeded := <-result:
			if ctx.Err() != nil {
				return false
			}
			return cluster.settle(ctx, made, job, succeeded, failures)
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

// startPod starts a pod, unless it is refused. Kill ends it, and then deletes it if that
// is wanted.
func (cluster *Kubernetes) startPod(ctx context.Context, job *batchv1.Job, fate Fate) (result chan bool, kill func(deletes bool)) {
	if fate == Refused {
		return nil, func(bool) {}
	}
	pod := cluster.newPod(job)
	if fate == Unschedulable {
		pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses = nil, nil
		pod.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/1 nodes are available",
		}}
		cluster.update(pod)
		return nil, func(deletes bool) {
			if deletes {
				cluster.deletePod(pod)
			}
		}
	}
	cluster.options.Started(job)
	podCtx, stop := context.WithCancel(ctx)
	result, done := make(chan bool, 1), make(chan struct{})
	cluster.group.Go(func() {
		defer close(done)
		result <- cluster.kubelet(podCtx, job, pod)
	})
	return result, func(deletes bool) {
		stop()
		if deletes {
			<-done
			cluster.deletePod(pod)
		}
	}
}

// settle notes the end of a pod.
func (cluster *Kubernetes) settle(ctx context.Context, made *managed, job *batchv1.Job, succeeded bool, failures *int) (ended bool) {
	cluster.sleep(ctx, made, cluster.options.Delay("settle", job.Name))
	if succeeded {
		const reason, message = "CompletionsReached", "Reached expected number of succeeded pods"
		cluster.status(made, func(job *batchv1.Job) {
			job.Status.Active, job.Status.Ready, job.Status.Succeeded = 0, new(int32(0)), 1
			cluster.setCondition(job, batchv1.JobSuccessCriteriaMet, corev1.ConditionTrue, reason, message)
			cluster.setCondition(job, batchv1.JobComplete, corev1.ConditionTrue, reason, message)
			job.Status.CompletionTime = new(cluster.now())
		})
		return true
	}
	*failures++
	if *failures > int(*job.Spec.BackoffLimit) {
		cluster.fail(made, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
		return true
	}
	cluster.status(made, func(job *batchv1.Job) { job.Status.Active, job.Status.Failed = 0, int32(*failures) }) //nolint:gosec // a few
	cluster.sleep(ctx, made, backoff<<(*failures-1))
	return false
}

// sleep waits, but not longer than the Job stays as it is.
func (cluster *Kubernetes) sleep(ctx context.Context, made *managed, most time.Duration) {
	until := time.Now().Add(most)
	for most > 0 && cluster.await(ctx, made, most) {
		if current := cluster.read(made); current == nil || isSuspended(current) {
			return
		}
		most = time.Until(until)
	}
}

func (cluster *Kubernetes) fail(made *managed, reason, message string) {
	cluster.status(made, func(job *batchv1.Job) {
		job.Status.Active, job.Status.Ready, job.Status.Failed = 0, new(int32(0)), job.Status.Failed+1
		cluster.setCondition(job, batchv1.JobFailureTarget, corev1.ConditionTrue, reason, message)
		cluster.setCondition(job, batchv1.JobFailed, corev1.ConditionTrue, reason, message)
	})
}

// expire waits until a Job that has ended is deleted, or does it after its TTL.
func (cluster *Kubernetes) expire(ctx context.Context, made *managed) {
	for ctx.Err() == nil {
		job := cluster.read(made)
		if job == nil {
			cluster.deletePods(ctx, made)
			return
		}
		if job.Spec.TTLSecondsAfterFinished == nil {
			cluster.await(ctx, made, 0)
			continue
		}
		left := cluster.until(ended(job).Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second))
		if left <= 0 {
			cluster.remove(job)
			continue
		}
		cluster.await(ctx, made, left)
	}
}

func ended(job *batchv1.Job) time.Time {
	return job.Status.Conditions[len(job.Status.Conditions)-1].LastTransitionTime.Time
}

func (cluster *Kubernetes) newPod(job *batchv1.Job) *corev1.Pod {
	template := job.Spec.Template.DeepCopy()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: job.Namespace, Name: job.Name + "-" + cluster.options.NewID()[:podSuffix], UID: types.UID(cluster.options.NewID()),
			Labels: template.Labels, Annotations: template.Annotations, CreationTimestamp: cluster.now(),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))},
		},
		Spec:   template.Spec,
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
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
	_ = cluster.tracker.Create(podsResource, pod, pod.Namespace) // its name is random
	cluster.index(&pod.ObjectMeta, true)
	return pod
}

func (cluster *Kubernetes) deletePod(pod *corev1.Pod) {
	_ = cluster.tracker.Delete(podsResource, pod.Namespace, pod.Name)
	cluster.index(&pod.ObjectMeta, false)
	cluster.mutex.Lock()
	defer cluster.mutex.Unlock()
	for _, status := range append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...) {
		delete(cluster.logs, logKey{pod.Namespace, pod.Name, status.Name})
	}
}

func (cluster *Kubernetes) deletePods(ctx context.Context, made *managed) {
	list, err := cluster.client.CoreV1().Pods(made.namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + made.name})
	if err != nil {
		return
	}
	for index := range list.Items {
		if metav1.GetControllerOf(&list.Items[index]).UID == made.uid {
			cluster.deletePod(&list.Items[index])
		}
	}
}

// kubelet runs a pod's containers and says whether all succeeded.
func (cluster *Kubernetes) kubelet(ctx context.Context, job *batchv1.Job, pod *corev1.Pod) (succeeded bool) {
	directory := filepath.Join(cluster.options.Directory, pod.Name)
	if cluster.options.Directory != "" {
		defer func() { _ = os.RemoveAll(directory) }()
		if err := os.MkdirAll(directory, 0o755); err != nil {
			cluster.failPod(pod, "Error", err.Error())
			return false
		}
	}
	if seconds := pod.Spec.ActiveDeadlineSeconds; seconds != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(*seconds)*time.Second, errDeadline)
		defer cancel()
	}
	running := &runningPod{cluster: cluster, job: job, Pod: pod, directory: directory}
	running.change(func() { pod.Status.StartTime = new(cluster.now()) })
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

// runningPod is a pod whose containers may run at the same time.
type runningPod struct {
	cluster *Kubernetes
	job     *batchv1.Job
	*corev1.Pod

	directory string
	mutex     sync.Mutex
}

// change changes the pod's status.
func (pod *runningPod) change(change func()) {
	pod.mutex.Lock()
	defer pod.mutex.Unlock()
	change()
	pod.cluster.update(pod.Pod)
}

// end notes how a pod ended, unless it is gone.
func (pod *runningPod) end(ctx context.Context, succeeded bool) bool {
	switch {
	case errors.Is(context.Cause(ctx), errDeadline):
		pod.cluster.failPod(pod.Pod, deadlineReason, "Pod was active on the node longer than the specified deadline")
		return false
	case ctx.Err() != nil:
		return false
	case !succeeded:
		pod.cluster.failPod(pod.Pod, "", "")
		return false
	}
	pod.change(func() { pod.Status.Phase = corev1.PodSucceeded })
	return true
}

var errDeadline = errors.New("deadline")

func (cluster *Kubernetes) failPod(pod *corev1.Pod, reason, message string) {
	pod.Status.Phase, pod.Status.Reason, pod.Status.Message = corev1.PodFailed, reason, message
	cluster.update(pod)
}

func (cluster *Kubernetes) update(pod *corev1.Pod) {
	_ = cluster.tracker.Update(podsResource, pod.DeepCopy(), pod.Namespace) // unless it is gone
}

// run runs one container and returns its exit code.
func (pod *runningPod) run(ctx context.Context, container *corev1.Container, status *corev1.ContainerStatus) int {
	cluster := pod.cluster
	select {
	case <-ctx.Done():
	case <-time.After(cluster.options.Delay("create", pod.Name+" "+container.Name)):
	}
	environment, err := cluster.environment(ctx, pod.Namespace, container)
	var projected map[string]string
	if err == nil {
		projected, err = cluster.project(pod.Pod, container, pod.directory)
	}
	defer func() {
		for _, place := range projected {
			_ = os.RemoveAll(place)
		}
	}()
	log := &containerLog{}
	cluster.mutex.Lock()
	cluster.logs[logKey{pod.Namespace, pod.Name, container.Name}] = log
	cluster.mutex.Unlock()
	started := cluster.now()
	isInit := slices.ContainsFunc(pod.Spec.InitContainers, func(init corev1.Container) bool { return init.Name == container.Name })
	pod.change(func() {
		status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: started}}
		if !isInit {
			pod.Status.Phase = corev1.PodRunning
		}
	})
	if !isInit {
		cluster.status(&managed{namespace: pod.job.Namespace, name: pod.job.Name, uid: pod.job.UID}, func(job *batchv1.Job) { job.Status.Ready = new(int32(1)) })
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
		terminationLog := pod.directory + "." + container.Name + ".termination-log"
		var code int
		reported := ""
		code, err = cluster.options.Runtime.Run(ctx, Container{
			Job: pod.job.Name, Name: container.Name, Image: container.Image, Command: expanded(container.Command), Arguments: expanded(container.Args),
			Environment: environment, WorkingDir: container.WorkingDir, Directory: pod.directory, MountPath: mountPath, Projected: projected,
			TerminationLog: terminationLog, Terminate: func(message string) { reported = message }, Output: log,
		})
		terminated.ExitCode = int32(code)                            //nolint:gosec // of a process
		if content, err := os.ReadFile(terminationLog); err == nil { //nolint:gosec // our own
			reported = string(content)
		}
		terminated.Message = terminationMessage(pod.Pod, reported)
	}
	if err != nil {
		terminated.ExitCode, terminated.Reason, terminated.Message = startErrorCode, startError, err.Error()
		terminated.StartedAt = metav1.Unix(0, 0) // as the kubelet has it of a container that never ran
	} else if terminated.ExitCode != 0 {
		terminated.Reason = "Error"
	}
	terminated.FinishedAt = cluster.now()
	pod.change(func() { status.State = corev1.ContainerState{Terminated: terminated} })
	return int(terminated.ExitCode)
}

// project writes the tokens that a container mounts, and returns in which directory each is.
func (cluster *Kubernetes) project(pod *corev1.Pod, container *corev1.Container, directory string) (map[string]string, error) {
	projected := map[string]string{}
	if cluster.options.Directory == "" {
		return projected, nil
	}
	for _, volume := range pod.Spec.Volumes {
		mounted := slices.IndexFunc(container.VolumeMounts, func(mount corev1.VolumeMount) bool { return mount.Name == volume.Name })
		if volume.Projected == nil || mounted < 0 {
			continue
		}
		place := directory + "." + volume.Name
		if err := os.MkdirAll(place, 0o700); err != nil {
			return nil, fmt.Errorf("making a directory for a token: %w", err)
		}
		for _, source := range volume.Projected.Sources {
			token := podToken(pod.Namespace, pod.Spec.ServiceAccountName, pod.Name)
			if err := os.WriteFile(filepath.Join(place, source.ServiceAccountToken.Path), []byte(token), 0o600); err != nil {
				return nil, fmt.Errorf("writing a token: %w", err)
			}
		}
		projected[container.VolumeMounts[mounted].MountPath] = place
	}
	return projected, nil
}

// terminationMessage returns what the kubelet keeps of a termination log: its last 4 KiB, and of
// those the beginning, so that all containers of a pod have no more than 12 KiB
// (kubelet/kuberuntime, getTerminationMessage; kubelet/status, normalizeStatus).
func terminationMessage(pod *corev1.Pod, content string) string {
	const ofFile, ofPod = 4096, 12 << 10
	message := content[max(0, len(content)-ofFile):]
	return message[:min(len(message), ofPod/(len(pod.Spec.InitContainers)+len(pod.Spec.Containers)))]
}

// environment resolves a container's variables.
func (cluster *Kubernetes) environment(ctx context.Context, namespace string, container *corev1.Container) (map[string]string, error) {
	environment := map[string]string{}
	for _, source := range container.EnvFrom {
		secret, err := cluster.client.CoreV1().Secrets(namespace).Get(ctx, source.SecretRef.Name, metav1.GetOptions{})
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
			found, err := cluster.client.CoreV1().ConfigMaps(namespace).Get(ctx, reference.Name, metav1.GetOptions{})
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
		secret, err := cluster.client.CoreV1().Secrets(namespace).Get(ctx, reference.Name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", variable.Name, err)
		}
		environment[variable.Name] = string(secret.Data[reference.Key])
	}
	return environment, nil
}

// log returns what a container has printed; nil if it has not run.
func (cluster *Kubernetes) log(key logKey) ([]byte, error) {
	cluster.mutex.Lock()
	defer cluster.mutex.Unlock()
	if _, err := cluster.tracker.Get(podsResource, key.namespace, key.pod); err != nil {
		return nil, apierrors.NewNotFound(podsResource.GroupResource(), key.pod)
	}
	log := cluster.logs[key]
	if log == nil {
		return nil, nil
	}
	return log.read(), nil
}
