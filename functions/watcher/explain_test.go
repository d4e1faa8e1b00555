package watcher

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/protocol"
)

func TestLastPhaseOfAJobThatHasNotEnded(t *testing.T) {
	const ran, finalizing = protocol.PhaseRun, protocol.PhaseFinalizing
	for name, test := range map[string]struct {
		pods    []corev1.PodPhase
		retries int32
		last    string
		want    []string
	}{
		"its container runs":                {[]corev1.PodPhase{corev1.PodRunning}, 0, finalizing, []string{ran}},
		"its container has passed":          {[]corev1.PodPhase{corev1.PodSucceeded}, 2, finalizing, []string{ran, finalizing}},
		"it has failed, without retries":    {[]corev1.PodPhase{corev1.PodFailed}, 0, finalizing, []string{ran, finalizing}},
		"it has failed, and is tried again": {[]corev1.PodPhase{corev1.PodFailed}, 1, finalizing, []string{ran, protocol.PhaseBackOff}},
		"its last attempt has failed":       {[]corev1.PodPhase{corev1.PodFailed, corev1.PodFailed}, 1, finalizing, []string{ran, finalizing}},
		"it has not started":                {[]corev1.PodPhase{corev1.PodPending}, 1, protocol.PhasePending, []string{ran, protocol.PhasePending}},
	} {
		t.Run(name, func(t *testing.T) {
			var pods []corev1.Pod
			for _, phase := range test.pods {
				pods = append(pods, corev1.Pod{Status: corev1.PodStatus{Phase: phase}})
			}
			job := &batchv1.Job{Spec: batchv1.JobSpec{BackoffLimit: &test.retries}}
			var got []string
			for _, phase := range soFar([]protocol.Phase{{Name: ran}, {Name: test.last}}, job, pods) {
				got = append(got, phase.Name)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
