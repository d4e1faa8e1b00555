package jobconfig

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
	"k8s.io/apimachinery/pkg/util/validation"
)

func env() kind[Env] {
	const (
		name      = "Name of the variable. With valueFrom secret, name of the Secret."
		value     = "The text. With valueFrom event, a JSONPath into the event: $.data, $.id, $.type, $.source, $.time, $.shkeptncontext or $.gitcommitid."
		source    = "Source of the value: event (value is a JSONPath), secret (all keys of the Secret), or string (value is the text)."
		as        = "Format of a value of the event: string, json or yaml. Without it, lists and objects become JSON."
		oneKey    = "One key of a Secret. (Extension.)"
		configMap = "One key of a ConfigMap. (Extension.)"
	)
	return object([]property[Env]{
		key("name", name, text(), func(e *Env) *string { return &e.Name }, noContainer("null"), schema{"minLength": 1}, example("HOST")),
		key("value", value, text(), func(e *Env) *string { return &e.Value }, example("$.data.deployment.deploymentURIsPublic[0]")),
		key("valueFrom", source, valueFrom(), func(e *Env) *string { return &e.ValueFrom }, example(ValueFromEvent)),
		key("as", as, form(), func(e *Env) *string { return &e.As }, example(AsYAML)),
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
	path := schema{"type": "string", "pattern": pathPattern, "maxLength": maxPathBytes}
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
	return kind[string]{of.schema, func(d *decoder, at yamlValue, into *string) {
		if at.node.Kind == yaml.MappingNode && len(at.node.Content) > 0 {
			d.wrong(at, "must be one of %s, %s, %s; put %s next to name, without valueFrom", ValueFromEvent, ValueFromSecret, ValueFromString, cut(at.node.Content[0].Value))
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
		func(d *decoder, at yamlValue, into *string) { *into = strings.ToLower(d.text(at)) },
	}
}

func (d *decoder) checkEnv(at yamlValue, given members, env *Env) {
	name, value := given["name"], given["value"]
	switch env.As {
	case "", AsString, AsJSON, AsYAML:
	default:
		d.wrong(given["as"], "%q must be one of %s, %s, %s", cut(env.As), AsString, AsJSON, AsYAML)
	}
	sources := []bool{env.ValueFrom != "", env.SecretKeyRef != nil, env.ConfigMapKeyRef != nil}
	number := len(slices.DeleteFunc(sources, func(given bool) bool { return !given }))
	switch {
	case env.Name == "":
		d.wrong(at, "needs a name")
	case number > 1:
		d.wrong(at, "valueFrom, secretKeyRef and configMapKeyRef are mutually exclusive")
	case number == 0 && !d.hasMistake(at.path+".valueFrom"):
		advice := ""
		if value.node != nil {
			advice = "; for a fixed text: valueFrom: " + ValueFromString
		}
		d.wrong(at, "needs valueFrom: one of %s, %s, %s%s", ValueFromEvent, ValueFromSecret, ValueFromString, advice)
	case env.ValueFrom == ValueFromSecret:
		d.checkName(name, env.Name, "a Secret", subdomainNaming())
	case len(validation.IsRelaxedEnvVarName(env.Name)) > 0:
		d.wrong(name, "%q is not a valid variable name: use printable ASCII characters except =", cut(env.Name))
	}
	if env.ValueFrom != ValueFromEvent {
		return
	}
	if value.node == nil {
		value = at
	}
	if env.Value = strings.TrimSpace(env.Value); env.Value == "" {
		d.wrong(at, "needs a value: a JSONPath, for example $.data.service")
	} else {
		d.checkPath(value, env.Value)
	}
}

// keyRef is one key of a Secret or ConfigMap.
func keyRef(what string) kind[*KeyRef] {
	const pattern = `^(\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*)$`
	of := object([]property[KeyRef]{
		key("name", "Name of the object.", required(what), func(r *KeyRef) *string { return &r.Name }, example("credentials")),
		key("key", "Key in the object.", text(), func(r *KeyRef) *string { return &r.Key }, noContainer("null"), schema{"pattern": pattern, "maxLength": validation.DNS1123SubdomainMaxLength},
			message("must be a key: letters, digits, -, _ and ."), example("token")),
	}, func(d *decoder, at yamlValue, _ members, ref *KeyRef) {
		switch {
		case ref.Name == "" || ref.Key == "":
			d.wrong(at, "needs a name and a key of %s", what)
		case len(validation.IsConfigMapKey(ref.Key)) > 0:
			d.wrong(at, "has key %q: a key may contain letters, digits, -, _ and .", cut(ref.Key))
		}
	}, func() schema { return schema{"type": "object", "required": []string{"name", "key"}} })
	return kind[*KeyRef]{of.schema, func(d *decoder, at yamlValue, into **KeyRef) {
		*into = &KeyRef{}
		of.read(d, at, *into)
	}}
}
