package conformance

import (
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/job-executor/job-executor/functions/jobconfig"
)

const (
	required      = "requiredDuringSchedulingIgnoredDuringExecution"
	preferred     = "preferredDuringSchedulingIgnoredDuringExecution"
	podPreference = "podAffinity: {" + preferred + ": [{weight: %, podAffinityTerm: {topologyKey: a}}]}"
)

// nodes returns a required node affinity with one term.
func nodes(term string) string {
	return "affinity: {nodeAffinity: {" + required + ": {nodeSelectorTerms: [{" + term + "}]}}}"
}

func expressions(expression string) string { return nodes("matchExpressions: [" + expression + "]") }

func podsBeside(term string) string {
	return "affinity: {podAntiAffinity: {" + required + ": [" + term + "]}}"
}

// verdicts are keys of a task, and whether the parser (with a line) and the API server reject them.
var verdicts = []struct {
	task    string
	refused bool
}{
	{"tolerations: [{operator: Exists}]", false},
	{"tolerations: [{key: a, operator: Equal, value: b, effect: NoSchedule}]", false},
	{"tolerations: [{key: a, value: b, effect: PreferNoSchedule}]", false},
	{"tolerations: [{key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 5}]", false},
	{"tolerations: [{key: spot, effect: NoSchedules}]", true},
	{"tolerations: [{key: spot, operator: Equals, value: x}]", true},
	{"tolerations: [{key: spot, operator: Gt, value: '1'}]", true},
	{"tolerations: [{key: spot, operator: Exists, value: x}]", true},
	{"tolerations: [{value: x}]", true},
	{"tolerations: [{key: a b, operator: Exists}]", true},
	{"tolerations: [{key: a, value: b c}]", true},
	{"tolerations: [{key: a, operator: Exists, effect: NoSchedule, tolerationSeconds: 5}]", true},
	{expressions("{key: a, operator: In, values: [b]}"), false},
	{expressions("{key: a, operator: Exists}"), false},
	{expressions("{key: a, operator: Gt, values: ['1']}"), false},
	{nodes("matchFields: [{key: metadata.name, operator: In, values: [node]}]"), false},
	{"affinity: {nodeAffinity: {" + required + ": {nodeSelectorTerms: []}}}", true},
	{expressions("{key: a, operator: Is, values: [b]}"), true},
	{expressions("{key: a, operator: In}"), true},
	{expressions("{key: a, operator: In, values: [b c]}"), true},
	{expressions("{key: a, operator: Exists, values: [b]}"), true},
	{expressions("{key: a, operator: Lt, values: ['1', '2']}"), true},
	{expressions("{key: a b, operator: Exists}"), true},
	{nodes("matchFields: [{key: metadata.labels, operator: In, values: [node]}]"), true},
	{nodes("matchFields: [{key: metadata.name, operator: Exists}]"), true},
	{"affinity: {nodeAffinity: {" + preferred + ": [{weight: 0, preference: {matchExpressions: [{key: a, operator: Exists}]}}]}}", true},
	{"affinity: {nodeAffinity: {" + preferred + ": [{weight: 100, preference: {matchExpressions: [{key: a, operator: Exists}]}}]}}", false},
	{podsBeside("{labelSelector: {matchLabels: {a: b}}, topologyKey: kubernetes.io/hostname}"), false},
	{podsBeside("{labelSelector: {matchLabels: {a: b}}}"), true},
	{podsBeside("{labelSelector: {matchLabels: {a b: c}}, topologyKey: a}"), true},
	{podsBeside("{labelSelector: {matchExpressions: [{key: a, operator: In}]}, topologyKey: a}"), true},
	{podsBeside("{topologyKey: a, namespaces: [A]}"), true},
	{"affinity: {" + strings.Replace(podPreference, "%", "1", 1) + "}", false},
	{"affinity: {" + strings.Replace(podPreference, "%", "101", 1) + "}", true},
	{expressions("{key: a, operator: Gt, values: [b c]}"), true},
	{nodes("matchFields: [{key: metadata.name, operator: In, values: [A_node]}]"), true},
	{podsBeside("{labelSelector: {}, topologyKey: a, matchLabelKeys: [a], mismatchLabelKeys: [b]}"), false},
	{podsBeside("{topologyKey: a, matchLabelKeys: [a]}"), true},
	{podsBeside("{topologyKey: a, mismatchLabelKeys: [a]}"), true},
	{podsBeside("{labelSelector: {}, topologyKey: a, matchLabelKeys: [a b]}"), true},
	{podsBeside("{labelSelector: {}, topologyKey: a, mismatchLabelKeys: [/a]}"), true},
	{podsBeside("{labelSelector: {}, topologyKey: a, matchLabelKeys: [a], mismatchLabelKeys: [a]}"), true},
	{podsBeside("{labelSelector: {matchLabels: {a: b}, matchExpressions: [{key: a, operator: Exists}]}, topologyKey: a, matchLabelKeys: [a]}"), true},
	{"securityContext: {seccompProfile: {type: Localhost, localhostProfile: profiles/audit.json}}", false},
	{"securityContext: {seccompProfile: {type: Localhost, localhostProfile: /audit.json}}", true},
	{"securityContext: {seccompProfile: {type: Localhost, localhostProfile: ../audit.json}}", true},
	{"volumes: [{claim: a, mountPath: /data}, {claim: a, mountPath: /more}]", false},
	{"volumes: [{claim: a, mountPath: /data}, {claim: b, mountPath: /data}]", true},
	{"resources: {requests: {cpu: 100m}, limits: {cpu: 100m}}", false},
	{"resources: {requests: {cpu: 200m}, limits: {cpu: 100m}}", true},
	{"nodeSelector: {a: b c}", true},
	{"labels: {team: shop}", false},
	{"labels: {a b: c}", true},
}

// TestVerdicts compares the parser of job/config.yaml and the API server for the same keys.
func TestVerdicts(t *testing.T, client kubernetes.Interface, namespace string) {
	for _, test := range verdicts {
		t.Run(test.task, func(t *testing.T) {
			config := jobconfig.Parse([]byte("apiVersion: v2\nactions:\n- name: A\n  event: sh.keptn.event.test.triggered\n  tasks:\n  - name: T\n    image: busybox\n    " + test.task + "\n"))
			if mistakes := config.All(); (len(mistakes) > 0) != test.refused {
				t.Errorf("the parser: %v", mistakes)
			}
			job := newJob(namespace, "true", suspendedFirst)
			apply(job, config.Actions[0].Tasks[0])
			_, err := client.BatchV1().Jobs(namespace).Create(t.Context(), job, metav1.CreateOptions{})
			if apierrors.IsInvalid(err) != test.refused || err != nil && !test.refused {
				t.Errorf("the API server: %v", err)
			}
			if err == nil {
				if err := client.BatchV1().Jobs(namespace).Delete(t.Context(), job.Name, metav1.DeleteOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// apply sets a task's keys on a Job without validation.
func apply(job *batchv1.Job, task jobconfig.Task) {
	spec := &job.Spec.Template.Spec
	spec.Tolerations, spec.Affinity, spec.NodeSelector = task.Tolerations, task.Affinity, task.NodeSelector
	for name, value := range task.Labels {
		job.Labels[name] = value
	}
	container := &spec.Containers[0]
	claims := map[string]bool{}
	for _, volume := range task.Volumes {
		if !claims[volume.Claim] {
			spec.Volumes = append(spec.Volumes, corev1.Volume{Name: volume.Claim, VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: volume.Claim},
			}})
		}
		claims[volume.Claim] = true
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: volume.Claim, MountPath: volume.MountPath})
	}
	if profile := task.SecurityContext.SeccompProfile; profile != nil {
		container.SecurityContext = &corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{
			Type: corev1.SeccompProfileType(profile.Type), LocalhostProfile: profile.LocalhostProfile,
		}}
	}
	if task.Resources != nil {
		container.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(task.Resources.Requests.CPU)}
		container.Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(task.Resources.Limits.CPU)}
	}
}
