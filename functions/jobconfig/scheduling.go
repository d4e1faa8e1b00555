package jobconfig

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateToleration and ValidateAffinity follow the API server (k8s.io/kubernetes/pkg/apis/core/validation, 1.34),
// whose code is too large to link. test/conformance compares them with a real API server.
func ValidateToleration(toleration *corev1.Toleration, at *field.Path) (wrong field.ErrorList) {
	if toleration.Key != "" {
		wrong = append(wrong, metav1validation.ValidateLabelName(toleration.Key, at.Child("key"))...)
	}
	if toleration.Key == "" && toleration.Operator != corev1.TolerationOpExists {
		wrong = append(wrong, field.Invalid(at.Child("operator"), toleration.Operator, "must be Exists when key is empty, which means all keys"))
	}
	if toleration.TolerationSeconds != nil && toleration.Effect != corev1.TaintEffectNoExecute {
		wrong = append(wrong, field.Invalid(at.Child("effect"), toleration.Effect, "must be NoExecute when tolerationSeconds is set"))
	}
	switch toleration.Operator {
	case corev1.TolerationOpEqual, "":
		for _, problem := range validation.IsValidLabelValue(toleration.Value) {
			wrong = append(wrong, field.Invalid(at.Child("value"), toleration.Value, problem))
		}
	case corev1.TolerationOpExists:
		if toleration.Value != "" {
			wrong = append(wrong, field.Invalid(at.Child("value"), toleration.Value, "must be empty when operator is Exists"))
		}
	default:
		wrong = append(wrong, field.NotSupported(at.Child("operator"), toleration.Operator, []corev1.TolerationOperator{corev1.TolerationOpEqual, corev1.TolerationOpExists}))
	}
	switch toleration.Effect {
	case "", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
	default:
		wrong = append(wrong, field.NotSupported(at.Child("effect"), toleration.Effect,
			[]corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}))
	}
	return wrong
}

// ValidateAffinity validates an affinity.
func ValidateAffinity(affinity *corev1.Affinity, at *field.Path) (wrong field.ErrorList) {
	if nodes := affinity.NodeAffinity; nodes != nil {
		at := at.Child("nodeAffinity")
		if required := nodes.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
			at := at.Child("requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
			if len(required.NodeSelectorTerms) == 0 {
				wrong = append(wrong, field.Required(at, "must have at least one node selector term"))
			}
			for index := range required.NodeSelectorTerms {
				wrong = append(wrong, nodeSelectorTerm(&required.NodeSelectorTerms[index], at.Index(index), true)...)
			}
		}
		for index := range nodes.PreferredDuringSchedulingIgnoredDuringExecution {
			preferred := &nodes.PreferredDuringSchedulingIgnoredDuringExecution[index]
			at := at.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(index)
			wrong = append(wrong, weight(preferred.Weight, at)...)
			wrong = append(wrong, nodeSelectorTerm(&preferred.Preference, at.Child("preference"), false)...)
		}
	}
	if pods := affinity.PodAffinity; pods != nil {
		wrong = append(wrong, podTerms(pods.RequiredDuringSchedulingIgnoredDuringExecution, pods.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAffinity"))...)
	}
	if pods := affinity.PodAntiAffinity; pods != nil {
		wrong = append(wrong, podTerms(pods.RequiredDuringSchedulingIgnoredDuringExecution, pods.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAntiAffinity"))...)
	}
	return wrong
}

func weight(weight int32, at *field.Path) field.ErrorList {
	const least, most = 1, 100
	if weight < least || weight > most {
		return field.ErrorList{field.Invalid(at.Child("weight"), weight, "must be in the range 1-100")}
	}
	return nil
}

func nodeSelectorTerm(term *corev1.NodeSelectorTerm, at *field.Path, isRequired bool) (wrong field.ErrorList) {
	for index := range term.MatchExpressions {
		wrong = append(wrong, nodeSelectorRequirement(&term.MatchExpressions[index], at.Child("matchExpressions").Index(index), isRequired)...)
	}
	for index := range term.MatchFields {
		requirement, at := &term.MatchFields[index], at.Child("matchFields").Index(index)
		if requirement.Key != metav1.ObjectNameField {
			wrong = append(wrong, field.Invalid(at.Child("key"), requirement.Key, "not a valid field selector key"))
		}
		if requirement.Operator != corev1.NodeSelectorOpIn && requirement.Operator != corev1.NodeSelectorOpNotIn {
			wrong = append(wrong, field.Invalid(at.Child("operator"), requirement.Operator, "not a valid selector operator"))
		} else if len(requirement.Values) != 1 {
			wrong = append(wrong, field.Required(at.Child("values"), "must be only one value when operator is In or NotIn for node field selector"))
		}
		if requirement.Key == metav1.ObjectNameField {
			wrong = append(wrong, invalid(requirement.Values, validation.IsDNS1123Subdomain, at.Child("values"))...)
		}
	}
	return wrong
}

func nodeSelectorRequirement(requirement *corev1.NodeSelectorRequirement, at *field.Path, isRequired bool) (wrong field.ErrorList) {
	switch requirement.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(requirement.Values) == 0 {
			wrong = append(wrong, field.Required(at.Child("values"), "must be specified when operator is In or NotIn"))
		}
	case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
		if len(requirement.Values) > 0 {
			wrong = append(wrong, field.Forbidden(at.Child("values"), "may not be specified when operator is Exists or DoesNotExist"))
		}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if len(requirement.Values) != 1 {
			wrong = append(wrong, field.Required(at.Child("values"), "must be specified single value when operator is Lt or Gt"))
		}
	default:
		wrong = append(wrong, field.Invalid(at.Child("operator"), requirement.Operator, "not a valid selector operator"))
	}
	if isRequired { // a preferred one may have any value
		wrong = append(wrong, invalid(requirement.Values, validation.IsValidLabelValue, at.Child("values"))...)
	}
	return append(wrong, metav1validation.ValidateLabelName(requirement.Key, at.Child("key"))...)
}

// invalid returns what a rule has against texts.
func invalid(texts []string, rule func(string) []string, at *field.Path) (wrong field.ErrorList) {
	for index, text := range texts {
		for _, problem := range rule(text) {
			wrong = append(wrong, field.Invalid(at.Index(index), text, problem))
		}
	}
	return wrong
}

func podTerms(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm, at *field.Path) (wrong field.ErrorList) {
	for index := range required {
		wrong = append(wrong, podTerm(&required[index], at.Child("requiredDuringSchedulingIgnoredDuringExecution").Index(index))...)
	}
	for index := range preferred {
		at := at.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(index)
		wrong = append(wrong, weight(preferred[index].Weight, at)...)
		wrong = append(wrong, podTerm(&preferred[index].PodAffinityTerm, at.Child("podAffinityTerm"))...)
	}
	return wrong
}

func podTerm(term *corev1.PodAffinityTerm, at *field.Path) (wrong field.ErrorList) {
	for name, selector := range map[string]*metav1.LabelSelector{"labelSelector": term.LabelSelector, "namespaceSelector": term.NamespaceSelector} {
		wrong = append(wrong, metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, at.Child(name))...)
	}
	wrong = append(wrong, invalid(term.Namespaces, validation.IsDNS1123Label, at.Child("namespaces"))...)
	wrong = append(wrong, labelKeys(term, at)...)
	if term.TopologyKey == "" {
		return append(wrong, field.Required(at.Child("topologyKey"), "can not be empty"))
	}
	return append(wrong, metav1validation.ValidateLabelName(term.TopologyKey, at.Child("topologyKey"))...)
}

// labelKeys validates the keys whose values are those of the new pod.
func labelKeys(term *corev1.PodAffinityTerm, at *field.Path) (wrong field.ErrorList) {
	for name, keys := range map[string][]string{"matchLabelKeys": term.MatchLabelKeys, "mismatchLabelKeys": term.MismatchLabelKeys} {
		if len(keys) > 0 && term.LabelSelector == nil {
			wrong = append(wrong, field.Forbidden(at.Child(name), "must not be specified when labelSelector is not set"))
			continue
		}
		for index, key := range keys {
			wrong = append(wrong, metav1validation.ValidateLabelName(key, at.Child(name).Index(index))...)
		}
	}
	for index, key := range term.MatchLabelKeys {
		at := at.Child("matchLabelKeys").Index(index)
		if slices.Contains(term.MismatchLabelKeys, key) {
			wrong = append(wrong, field.Invalid(at, key, "exists in both matchLabelKeys and mismatchLabelKeys"))
		}
		if selects(term.LabelSelector, key) {
			wrong = append(wrong, field.Invalid(at, key, "exists in both matchLabelKeys and labelSelector"))
		}
	}
	return wrong
}

// selects reports whether a selector has a condition on a label.
func selects(selector *metav1.LabelSelector, label string) bool {
	if selector == nil {
		return false
	}
	_, isMatched := selector.MatchLabels[label]
	return isMatched || slices.ContainsFunc(selector.MatchExpressions, func(r metav1.LabelSelectorRequirement) bool { return r.Key == label })
}
