package embedded

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	clienttesting "k8s.io/client-go/testing"

	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/podsecurity"
)

// validate rejects requests of tasks like the API server, whose validation is too large to link.
// conformance.TestJobs compares it with the real one.
func validate(job *batchv1.Job) error {
	template := field.NewPath("spec", "template")
	failures := apivalidation.ValidateAnnotations(job.Annotations, field.NewPath("metadata", "annotations"))
	failures = append(failures, metav1validation.ValidateLabels(job.Labels, field.NewPath("metadata", "labels"))...)
	failures = append(failures, metav1validation.ValidateLabels(job.Spec.Template.Labels, template.Child("metadata", "labels"))...)
	if deadline := job.Spec.ActiveDeadlineSeconds; deadline != nil && *deadline < 0 {
		failures = append(failures, field.Invalid(field.NewPath("spec", "activeDeadlineSeconds"), *deadline, "must not be negative"))
	}
	pod := &job.Spec.Template.Spec
	for index := range pod.Tolerations {
		failures = append(failures, jobconfig.ValidateToleration(&pod.Tolerations[index], template.Child("spec", "tolerations").Index(index))...)
	}
	if pod.Affinity != nil {
		failures = append(failures, jobconfig.ValidateAffinity(pod.Affinity, template.Child("spec", "affinity"))...)
	}
	failures = append(failures, metav1validation.ValidateLabels(pod.NodeSelector, template.Child("spec", "nodeSelector"))...)
	for _, container := range slices.Concat(job.Spec.Template.Spec.InitContainers, job.Spec.Template.Spec.Containers) {
		failures = append(failures, invalidContainer(&container, template.Child("spec", "containers").Key(container.Name))...)
	}
	if len(failures) > 0 {
		return apierrors.NewInvalid(batchv1.SchemeGroupVersion.WithKind("Job").GroupKind(), job.Name, failures)
	}
	return nil
}

func invalidContainer(container *corev1.Container, path *field.Path) (failures field.ErrorList) {
	for index := range container.Env {
		for _, problem := range validation.IsRelaxedEnvVarName(container.Env[index].Name) {
			failures = append(failures, field.Invalid(path.Child("env").Index(index).Child("name"), container.Env[index].Name, problem))
		}
	}
	mounted := map[string]bool{}
	for index, mount := range container.VolumeMounts {
		if mounted[mount.MountPath] {
			failures = append(failures, field.Invalid(path.Child("volumeMounts").Index(index).Child("mountPath"), mount.MountPath, "must be unique"))
		}
		mounted[mount.MountPath] = true
	}
	for name, request := range container.Resources.Requests {
		if limit, ok := container.Resources.Limits[name]; ok && request.Cmp(limit) > 0 {
			failures = append(failures, field.Invalid(path.Child("resources", "requests"), request.String(), "must be less than or equal to the limit"))
		}
	}
	if wanted := container.SecurityContext; wanted != nil {
		if wanted.Privileged != nil && *wanted.Privileged && wanted.AllowPrivilegeEscalation != nil && !*wanted.AllowPrivilegeEscalation {
			failures = append(failures, field.Invalid(path.Child("securityContext"), true, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		for name, id := range map[string]*int64{"runAsUser": wanted.RunAsUser, "runAsGroup": wanted.RunAsGroup} {
			if id != nil && len(validation.IsValidUserID(*id)) > 0 {
				failures = append(failures, field.Invalid(path.Child("securityContext", name), *id, "is no id"))
			}
		}
		if profile := wanted.SeccompProfile; profile != nil && profile.LocalhostProfile != nil {
			if file := *profile.LocalhostProfile; filepath.IsAbs(file) || slices.Contains(strings.Split(file, "/"), "..") {
				failures = append(failures, field.Invalid(path.Child("securityContext", "seccompProfile", "localhostProfile"), file, "must be a relative path without .."))
			}
		}
	}
	return failures
}

// tryPod answers the dry run of a pod's creation like a namespace that enforces pod security "baseline".
func tryPod(action clienttesting.Action) (bool, runtime.Object, error) {
	create, ok := action.(clienttesting.CreateActionImpl)
	if !ok || len(create.CreateOptions.DryRun) == 0 {
		return false, nil, nil
	}
	pod, ok := create.GetObject().(*corev1.Pod)
	if !ok {
		return false, nil, nil
	}
	why, err := podsecurity.Refusal(podsecurity.Baseline, &pod.Spec)
	if err == nil && why != "" {
		err = apierrors.NewForbidden(corev1.Resource("pods"), pod.GenerateName, errors.New(why))
	}
	if err != nil {
		return true, nil, err
	}
	return true, pod, nil
}
