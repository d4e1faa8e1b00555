package run

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestLateStarts(t *testing.T) {
	at := func(seconds int) metav1.Time { return metav1.NewTime(time.Unix(int64(seconds), 0)) }
	of := func(states ...corev1.ContainerState) corev1.Pod {
		pod := corev1.Pod{}
		for index, state := range states {
			statuses := &pod.Status.ContainerStatuses
			if index < len(states)-1 {
				statuses = &pod.Status.InitContainerStatuses
			}
			*statuses = append(*statuses, corev1.ContainerStatus{State: state})
		}
		return pod
	}
	running := func(seconds int) corev1.ContainerState {
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(seconds)}}
	}
	ended := func(seconds int) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{StartedAt: at(seconds)}}
	}
	waiting := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}
	tests := []struct {
		name string
		pods []corev1.Pod
		want bool
	}{
		{name: "soon", pods: []corev1.Pod{of(running(109))}},
		{name: "soon, and ended", pods: []corev1.Pod{of(ended(103))}},
		{name: "only its init container started", pods: []corev1.Pod{of(ended(103), waiting)}},
		{name: "late", pods: []corev1.Pod{of(running(110))}, want: true},
		{name: "never", pods: []corev1.Pod{of(waiting)}, want: true},
		{name: "no pod", want: true},
		{name: "one of two pods", pods: []corev1.Pod{of(ended(140)), of(ended(104))}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			job := &batchv1.Job{Status: batchv1.JobStatus{StartTime: new(at(100))}}
			if got := StartedLate(job, test.pods); got != test.want {
				t.Errorf("got %t", got)
			}
			if !StartedLate(&batchv1.Job{}, test.pods) {
				t.Error("a Job that has not begun is not late")
			}
		})
	}
}
