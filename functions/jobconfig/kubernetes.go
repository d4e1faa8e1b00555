package jobconfig

import (
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// kubernetes is a value of a type of the Kubernetes API. As in JSON, keys must have their exact
// spelling, and texts need quotes if they look like numbers.
func kubernetes[T any](check func(d *decoder, at yamlValue, read *T)) kind[T] {
	return kind[T]{func() schema { return schemaOf(reflect.TypeFor[T](), kubernetesRules()) }, func(d *decoder, at yamlValue, into *T) {
		if d.strict(at, into) {
			check(d, at, into)
		}
	}}
}

// schemaOf returns the schema of a type from its JSON tags. Null is the zero value of each type.
func schemaOf(of reflect.Type, rules map[string]schema) schema {
	switch of.Kind() {
	case reflect.Pointer:
		return schemaOf(of.Elem(), rules)
	case reflect.Slice:
		return schema{"type": []string{"array", "null"}, "items": schemaOf(of.Elem(), rules)}
	case reflect.Map:
		return schema{"type": []string{"object", "null"}, "additionalProperties": schemaOf(of.Elem(), rules)}
	case reflect.Struct:
		properties := schema{}
		for index := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(index).Tag.Get("json"), ",")
			properties[name] = schemaOf(of.Field(index).Type, rules).with(rules[of.Name()+"."+name])
		}
		return schema{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}.with(rules[of.Name()])
	case reflect.Int32, reflect.Int64:
		return schema{"type": []string{"integer", "null"}}
	default:
		return schema{"type": []string{"string", "null"}}
	}
}

// kubernetesRules returns further rules of package scheduling, as far as a schema can express them.
func kubernetesRules() map[string]schema {
	const label = `^(` + prefixOfLabel + `)?` + nameOfLabel + `$`
	weight := schema{"minimum": 1, "maximum": 100, "type": "integer"}
	noKey := schema{"properties": schema{"key": schema{"enum": []any{"", nil}}}}
	exists := func(name string) schema {
		return schema{"required": []string{name}, "properties": schema{name: schema{"const": corev1.TolerationOpExists}}}
	}
	operator := func(names ...corev1.NodeSelectorOperator) schema {
		return schema{"properties": schema{"operator": schema{"enum": names}}}
	}
	values := func(more schema) schema {
		return schema{"required": []string{"values"}, "properties": schema{"values": schema{"type": "array"}.with(more)}}
	}
	return map[string]schema{
		"Toleration": {"type": "object", "allOf": []schema{
			{"if": noKey, "then": exists("operator")},
			{"if": exists("operator"), "then": schema{"properties": schema{"value": schema{"enum": []any{"", nil}}}}},
			{
				"if":   schema{"required": []string{"tolerationSeconds"}, "properties": schema{"tolerationSeconds": schema{"type": "integer"}}},
				"then": schema{"required": []string{"effect"}, "properties": schema{"effect": schema{"const": corev1.TaintEffectNoExecute}}},
			},
		}},
		"Toleration.key":      {"pattern": `^$|` + label},
		"Toleration.operator": {"enum": []any{corev1.TolerationOpEqual, corev1.TolerationOpExists, "", nil}},
		"Toleration.value":    {"pattern": labelValue},
		"Toleration.effect": {"enum": []any{
			corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute, "", nil,
		}},
		"PreferredSchedulingTerm":        {"type": "object", "required": []string{"weight"}},
		"PreferredSchedulingTerm.weight": weight,
		"WeightedPodAffinityTerm":        {"type": "object", "required": []string{"weight", "podAffinityTerm"}},
		"WeightedPodAffinityTerm.weight": weight,
		"NodeSelector":                   {"required": []string{"nodeSelectorTerms"}},
		"NodeSelector.nodeSelectorTerms": {"type": "array", "minItems": 1},
		"PodAffinityTerm":                {"type": "object", "required": []string{"topologyKey"}},
		"PodAffinityTerm.topologyKey":    {"type": "string", "pattern": label},
		"NodeSelectorRequirement.key":    {"type": "string", "pattern": label},
		"LabelSelectorRequirement.key":   {"type": "string", "pattern": label},
		"NodeSelectorRequirement": {"type": "object", "required": []string{"key", "operator"}, "allOf": []schema{
			{"if": operator(corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn), "then": values(schema{"minItems": 1})},
			{"if": operator(corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt), "then": values(schema{"minItems": 1, "maxItems": 1})},
			{
				"if":   operator(corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist),
				"then": schema{"properties": schema{"values": schema{"maxItems": 0}}},
			},
		}},
		"NodeSelectorRequirement.operator": {"type": "string", "enum": []any{
			corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn, corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist, corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt,
		}},
		"LabelSelectorRequirement":          {"type": "object", "required": []string{"key", "operator"}},
		"LabelSelectorRequirement.operator": {"type": "string", "enum": []string{"In", "NotIn", "Exists", "DoesNotExist"}},
	}
}
