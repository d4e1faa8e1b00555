package store

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/job-executor/job-executor/functions/cluster"
)

// Pods reads the pods of Jobs and their logs.
type Pods struct {
	Client cluster.Client
}

// Events returns the Kubernetes events about a Job or pod, the oldest first. They say why a pod was refused,
// could not be scheduled, or lacks a volume.
func (p *Pods) Events(ctx context.Context, namespace string, of types.UID) ([]corev1.Event, error) {
	list, err := p.Client.Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(of), Limit: maxEvents})
	if err != nil {
		return nil, fmt.Errorf("list the events of %s in namespace %s: %w", of, namespace, err)
	}
	slices.SortStableFunc(list.Items, func(one, other corev1.Event) int { return lastSeen(one).Compare(lastSeen(other)) })
	return list.Items, nil
}

// maxEvents bounds how many events of one object are read.
const maxEvents = 100

func lastSeen(seen corev1.Event) time.Time {
	if !seen.LastTimestamp.IsZero() {
		return seen.LastTimestamp.Time
	}
	if seen.Series != nil {
		return seen.Series.LastObservedTime.Time
	}
	if !seen.EventTime.IsZero() {
		return seen.EventTime.Time
	}
	return seen.CreationTimestamp.Time
}

// List returns the pods of a Job, the oldest first.
func (p *Pods) List(ctx context.Context, job *batchv1.Job) ([]corev1.Pod, error) {
	list, err := p.Client.Pods(job.Namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + job.Name})
	if err != nil {
		return nil, fmt.Errorf("list the pods of Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	slices.SortFunc(list.Items, func(one, other corev1.Pod) int {
		return cmp.Or(one.CreationTimestamp.Compare(other.CreationTimestamp.Time), cmp.Compare(one.Name, other.Name))
	})
	return list.Items, nil
}

// maxLogRead bounds how much of a log is read. The kubelet rotates logs at 10 MiB.
const maxLogRead = 32 << 20

// Log copies the log of a container to a writer until the context ends. If it fails, the part before has been
// written.
func (p *Pods) Log(ctx context.Context, pod *corev1.Pod, container string, to io.Writer) error {
	stream, err := p.Client.Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container}).Stream(ctx)
	if err != nil {
		return fmt.Errorf("read the log of container %s of pod %s/%s: %w", container, pod.Namespace, pod.Name, err)
	}
	defer func() { _ = stream.Close() }()
	if _, err := io.Copy(to, io.LimitReader(stream, maxLogRead)); err != nil {
		return fmt.Errorf("read the log of container %s of pod %s/%s: %w", container, pod.Namespace, pod.Name, err)
	}
	return nil
}
