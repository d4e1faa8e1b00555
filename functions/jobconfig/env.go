package jobconfig

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/job-executor/job-executor/functions/jobconfig/expression"
	"github.com/job-executor/job-executor/functions/jobconfig/reader"
)

func env() kind[Env] {
	const (
		name      = "The variable's name; with valueFrom secret, the Secret's."
		value     = "Text; with valueFrom event, a JSONPath of the event."
		source    = "The source of the value: the event by a JSONPath, all keys of a Secret, or the text in value."
		as        = "How a value of the event is written; objects and lists are JSON by default."
		oneKey    = "One key of a Secret. (Extension.)"
		configMap = "One key of a ConfigMap. (Extension.)"
	)
	return object([]property[Env]{
		key("name", name, text(), func(e *Env) *string { return &e.Name }, noContainer("null"), schema{"minLength": 1}, example("HOST")),
		key("value", value, text(), func(e *Env) *string { return &e.Value }, example("$.data.deployment.deploymentURIsPublic[0]")),
		key("valueFrom", source, valueFrom(), func(e *Env) *string { return &e.ValueFrom }),
		key("as", as, form(), func(e *Env) *string { return &e.As }),
		key("secretKeyRef", oneKey, keyRef("a Secret"), func(e *Env) **KeyRef { return &e.SecretKeyRef }),
		key("configMapKeyRef", configMap, keyRef("a ConfigMap"), func(e *Env) **KeyRef { return &e.ConfigMapKeyRef }),
	}, (*decoder).checkEnv, envRules)
}

func envRules() schema {
	const variable = `^[ -<>-~]+$`
	given := func(name string, value schema) schema {
		return schema{"required": []string{name}, "properties": schema{name: value}}
	}
	from := func(source string) schema { return given("valueFrom", schema{"const": source}) }
	secret := schema{"minimum": 0, "pattern": "^" + subdomainNaming().pattern + "$", "maxLength": validation.DNS1123SubdomainMaxLength}
	path := schema{"type": "string", "pattern": pathPattern, "maxLength": expression.MaxPathBytes}
	return schema{
		"type": "object", "required": []string{"name"}, "description": "An environment variable, or with valueFrom secret one for each key of a Secret.",
		"oneOf": []schema{
			given("valueFrom", schema{"enum": []any{ValueFromEvent, ValueFromSecret, ValueFromString}}),
			{"required": []string{"secretKeyRef"}},
			{"required": []string{"configMapKeyRef"}},
		},
		"allOf": []schema{
			{"if": from(ValueFromEvent), "then": given("value", path)},
			{
				"if":   from(ValueFromSecret),
				"then": schema{"properties": schema{"name": secret}},
				"else": schema{"properties": schema{"name": schema{"pattern": variable}}},
			},
		},
		"errorMessage": "needs a name and one of valueFrom, secretKeyRef and configMapKeyRef",
	}
}

func valueFrom() kind[string] {
	of := oneOf(ValueFromEvent, ValueFromSecret, ValueFromString)
	return kind[string]{of.schema, func(d *decoder, at reader.Value, into *string) {
		if at.Node.Kind == yaml.MappingNode && len(at.Node.Content) > 0 {
			d.Wrong(at, "must be one of %s, %s, %s; put %s next to name, without valueFrom", ValueFromEvent, ValueFromSecret, ValueFromString, reader.Cut(at.Node.Content[0].Value))
			return
		}
		of.read(d, at, into)
	}}
}

// form is the format of a value of the event, in upper or lower case.
func form() kind[string] {
	const anyCase = `^([sS][tT][rR][iI][nN][gG]|[jJ][sS][oO][nN]|[yY][aA][mM][lL])?$`
	return kind[string]{
		func() schema {
			return schema{
				"anyOf":        []schema{{"enum": []any{AsString, AsJSON, AsYAML}}, {"type": "string", "pattern": anyCase, "doNotSuggest": true}, {"const": nil, "doNotSuggest": true}},
				"errorMessage": "must be one of string, json, yaml",
			}
		},
		func(d *decoder, at reader.Value, into *string) { *into = strings.ToLower(d.Text(at)) },
	}
}

func (d *decoder) checkEnv(at reader.Value, given members, env *Env) {
	name, value := given["name"], given["value"]
	switch env.As {
	case "", AsString, AsJSON, AsYAML:
	default:
		d.Wrong(given["as"], "%q must be one of %s, %s, %s", reader.Cut(env.As), AsString, AsJSON, AsYAML)
	}
	sources := []bool{env.ValueFrom != "", env.SecretKeyRef != nil, env.ConfigMapKeyRef != nil}
	number := len(slices.DeleteFunc(sources, func(given bool) bool { return !given }))
	switch {
	case env.Name == "":
		d.Wrong(at, "needs a name")
	case number > 1:
		d.Wrong(at, "needs one of valueFrom, secretKeyRef and configMapKeyRef, not several")
	case number == 0 && !d.hasMistake(at.Path+".valueFrom"):
		advice := ""
		if value.Node != nil {
			advice = "; for a fixed text: valueFrom: " + ValueFromString
		}
		d.Wrong(at, "needs valueFrom: one of %s, %s, %s%s", ValueFromEvent, ValueFromSecret, ValueFromString, advice)
	case env.ValueFrom == ValueFromSecret:
		d.checkName(name, env.Name, "a Secret", subdomainNaming())
	case len(validation.IsRelaxedEnvVarName(env.Name)) > 0:
		d.Wrong(name, "%q is not the name of a variable: it may have letters, digits, and signs of ASCII but =", reader.Cut(env.Name))
	}
	if env.ValueFrom != ValueFromEvent {
		return
	}
	if value.Node == nil {
		value = at
	}
	if env.Value = strings.TrimSpace(env.Value); env.Value == "" {
		d.Wrong(at, "needs a value: a JSONPath, as $.data.service")
	} else {
		d.checkPath(value, env.Value)
	}
}

// keyRef is one key of a Secret or ConfigMap.
func keyRef(what string) kind[*KeyRef] {
	const pattern = `^(\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*)$`
	of := object([]property[KeyRef]{
		key("name", "Its name.", required(what), func(r *KeyRef) *string { return &r.Name }, example("credentials")),
		key("key", "Its key.", text(), func(r *KeyRef) *string { return &r.Key }, noContainer("null"), schema{"pattern": pattern, "maxLength": validation.DNS1123SubdomainMaxLength},
			message("must be a key: letters, digits, -, _ and ."), example("token")),
	}, func(d *decoder, at reader.Value, _ members, ref *KeyRef) {
		switch {
		case ref.Name == "" || ref.Key == "":
			d.Wrong(at, "needs a name and a key of %s", what)
		case len(validation.IsConfigMapKey(ref.Key)) > 0:
			d.Wrong(at, "has key %q: a key may contain letters, digits, -, _ and .", reader.Cut(ref.Key))
		}
	}, func() schema { return schema{"type": "object", "required": []string{"name", "key"}} })
	return kind[*KeyRef]{of.schema, func(d *decoder, at reader.Value, into **KeyRef) {
		*into = &KeyRef{}
		of.read(d, at, *into)
	}}
}
