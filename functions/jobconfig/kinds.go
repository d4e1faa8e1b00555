package jobconfig

import (
	"maps"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"go.yaml.in/yaml/v4"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// noContainer is the schema of scalars. It does not list their types, because editors would then
// offer true, false and null.
func noContainer(more ...string) schema {
	return schema{"not": schema{"type": append([]string{"array", "object"}, more...)}}
}

// text is any scalar, read as text. Null is an empty text.
func text() kind[string] {
	return kind[string]{
		func() schema { return noContainer().with(message("must be text")) },
		func(d *decoder, at yamlValue, into *string) { *into = d.text(at) },
	}
}

// oneOf is one of several texts, or empty.
func oneOf(allowed ...string) kind[string] {
	var values []any
	for _, value := range allowed {
		values = append(values, value)
	}
	return kind[string]{
		func() schema {
			return schema{"anyOf": []schema{{"enum": values}, {"enum": []any{"", nil}, "doNotSuggest": true}}, "errorMessage": "must be one of " + strings.Join(allowed, ", ")}
		},
		func(d *decoder, at yamlValue, into *string) { *into = d.oneOf(at, allowed...) },
	}
}

// texts returns words in all spellings of YAML 1.1, which the parser accepts.
func texts(words ...string) (all []any) {
	for _, word := range words {
		all = append(all, word, strings.ToUpper(word))
		if title := strings.ToUpper(word[:1]) + word[1:]; len(word) > 1 {
			all = append(all, title)
		}
	}
	return all
}

func trueTexts() []any { return texts("y", "yes", "on") }

func falseTexts() []any { return texts("n", "no", "off") }

// truth is true, false or null.
func truth() kind[*bool] {
	return kind[*bool]{
		func() schema {
			return schema{
				"anyOf":        []schema{{"type": []string{"boolean", "null"}}, {"enum": slices.Concat(trueTexts(), falseTexts()), "doNotSuggest": true}},
				"errorMessage": "must be true or false",
			}
		},
		func(d *decoder, at yamlValue, into **bool) { *into = d.boolean(at) },
	}
}

// toggle is true or false. Null is false.
func toggle() kind[bool] {
	return kind[bool]{func() schema { return truth().schema().with(otherwise(false)) }, func(d *decoder, at yamlValue, into *bool) { *into = isTrue(d.boolean(at)) }}
}

func isTrue(truth *bool) bool { return truth != nil && *truth }

// integer is a whole number within limits, or null.
func integer(least, most int64, unit string) kind[*int64] {
	return kind[*int64]{
		func() schema {
			return schema{
				"anyOf": []schema{
					{"type": []string{"integer", "null"}, "minimum": least, "maximum": most},
					{"type": "string", "pattern": `^[-+]?[0-9]+(_[0-9]+)+$`, "doNotSuggest": true}, // YAML 1.1's form
				},
				"errorMessage": "must be a whole number" + unit + ", without quotes",
			}
		},
		func(d *decoder, at yamlValue, into **int64) { *into = d.integer(at, least, most) },
	}
}

// maxSeconds is Kubernetes' limit for a duration.
const maxSeconds = math.MaxInt32

// seconds is a whole number of seconds that 32 bits can hold, or null.
func seconds(least int64) kind[*int32] {
	whole := integer(least, maxSeconds, " of seconds")
	return kind[*int32]{whole.schema, func(d *decoder, at yamlValue, into **int32) {
		var number *int64
		if whole.read(d, at, &number); number != nil {
			*into = new(int32(*number)) //nolint:gosec // within the limits
		}
	}}
}

// words is a list of texts, or one text, which is a single word.
func words() kind[[]string] {
	return kind[[]string]{
		func() schema {
			return schema{"anyOf": []schema{{"type": "array", "items": text().schema()}, noContainer(), {"type": "object", "maxProperties": 0}}, "errorMessage": "must be a list of words, or one word"}
		},
		func(d *decoder, at yamlValue, into *[]string) { *into = d.words(at) },
	}
}

const quantityPattern = `^(\+?[0-9]+(\.[0-9]*)?|\+?\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]+)?$|^$`

// quantity is a quantity of Kubernetes, such as 500m or 1Gi.
func quantity() kind[string] {
	return kind[string]{
		func() schema {
			return noContainer("boolean").with(schema{"minimum": 0, "pattern": quantityPattern}, message("must be a quantity, such as 500m, 2, 128Mi or 1Gi"))
		},
		func(d *decoder, at yamlValue, into *string) {
			*into = d.text(at)
			if parsed, err := resource.ParseQuantity(*into); *into != "" && (err != nil || parsed.Sign() < 0) {
				d.wrong(at, "%q is not a quantity: write it as 500m, 2, 128Mi or 1Gi", cut(*into))
			}
		},
	}
}

// naming is a rule for names in Kubernetes. Numbers may be names, too.
type naming struct {
	check   func(string) []string
	pattern string
	numbers schema
}

func labelNaming() naming {
	return naming{validation.IsDNS1123Label, `[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?`, schema{"minimum": 0, "multipleOf": 1}}
}

func subdomainNaming() naming {
	const part = `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
	return naming{validation.IsDNS1123Subdomain, part + `(\.` + part + `)*`, schema{"minimum": 0, "maxLength": validation.DNS1123SubdomainMaxLength}}
}

// nameOf is the name of an object in Kubernetes. Empty means the default one.
func nameOf(what string, rule naming) kind[string] {
	return kind[string]{
		func() schema {
			return noContainer().with(rule.numbers, schema{"pattern": "^(" + rule.pattern + ")?$"}, message("must be the name of "+what))
		},
		func(d *decoder, at yamlValue, into *string) {
			if *into = d.text(at); *into != "" {
				d.checkName(at, *into, what, rule)
			}
		},
	}
}

func (d *decoder) checkName(at yamlValue, name, what string, rule naming) {
	if len(rule.check(name)) > 0 {
		d.wrong(at, "%q is not a valid name of %s: use lower-case letters, digits and -", cut(name), what)
	}
}

// required is the name of an object in Kubernetes. It must not be empty.
func required(what string) kind[string] {
	rule := subdomainNaming()
	of := nameOf(what, rule)
	return kind[string]{
		func() schema {
			return of.schema().with(noContainer("null"), schema{"pattern": "^" + rule.pattern + "$"})
		},
		func(d *decoder, at yamlValue, into *string) {
			of.read(d, at, into)
			if *into == "" && at.node.Kind == yaml.ScalarNode {
				d.wrong(at, "must name %s", what)
			}
		},
	}
}

// image is the reference of a container's image.
func image() kind[string] {
	return kind[string]{
		func() schema {
			return noContainer("null").with(schema{"pattern": reference.ReferenceRegexp.String(), "minimum": 0}, message("must be the name of an image"))
		},
		func(d *decoder, at yamlValue, into *string) {
			*into = d.text(at)
			if _, err := reference.ParseNormalizedNamed(*into); err != nil && *into != "" {
				d.wrong(at, "%q is not the name of an image: %s", cut(*into), err)
			}
		},
	}
}

// file is the path of a file or folder. Null and / mean all files.
func file() kind[string] {
	return kind[string]{
		func() schema {
			return noContainer().with(schema{"allOf": []schema{{"not": schema{"type": "string", "pattern": `(^|/)\.\.(/|$)|[~\\\x00]`}}}},
				message("must be a path in the project's repository, without .., ~ and \\"))
		},
		func(d *decoder, at yamlValue, into *string) {
			*into = d.text(at)
			switch clean := path.Clean("/" + *into); {
			case climbs(*into):
				d.wrong(at, "%q contains ..: use a path in the project's repository", cut(*into))
			case strings.ContainsAny(*into, "~\\\x00"):
				d.wrong(at, "%q contains ~ or \\, which Keptn does not allow in paths", cut(*into))
			case strings.ContainsAny(clean, "*?"):
				d.warn(at, "%q is used literally: wildcards are not supported; name the folder to copy all its files", cut(*into))
			}
		},
	}
}

// pathPattern matches the beginning of each JSONPath.
const pathPattern = `^\s*\$`

// jsonPath is a JSONPath, or null.
func jsonPath() kind[string] {
	return kind[string]{
		func() schema {
			return noContainer("boolean", "number").with(schema{"pattern": pathPattern + `|^\s*$`, "maxLength": maxPathBytes}, message("must be a JSONPath, such as $.data.service"))
		},
		func(d *decoder, at yamlValue, into *string) {
			if *into = strings.TrimSpace(d.text(at)); *into != "" {
				d.checkPath(at, *into)
			}
		},
	}
}

func (d *decoder) checkPath(at yamlValue, text string) {
	if err := checkPath(text); err != nil {
		d.wrong(at, "%s", err)
	}
}

// labelValue is the pattern of the value of a label.
const labelValue = `^(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?$`

// pairs is a map of texts, or a list of such maps. Wrong returns the end of a sentence about a name
// that is not allowed. Names and values are the schemas of both.
func pairs(wrong func(name string) string, names func() schema, values schema) kind[map[string]string] {
	of := func() schema {
		return schema{"type": []string{"object", "null"}, "propertyNames": names(), "additionalProperties": text().schema().with(values)}
	}
	return kind[map[string]string]{
		func() schema { return schema{"anyOf": []schema{of(), {"type": "array", "items": of()}}} },
		func(d *decoder, at yamlValue, into *map[string]string) { *into = d.pairs(at, wrong) },
	}
}

// Patterns of the names of labels and annotations. The prefix of an annotation may have capital letters.
const (
	nameOfLabel      = `[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?`
	prefixOfLabel    = `[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/`
	prefixOfAnything = `[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*/`
)

// annotations is a map, or a list of maps with one member each, as the job-executor-service
// documents (FEATURES.md) but never accepted.
func annotations() kind[map[string]string] {
	const reserved = `^[jJ][oO][bB]-[eE][xX][eE][cC][uU][tT][oO][rR]\.[gG][iI][tT][hH][uU][bB]\.[iI][oO]/`
	return pairs(func(name string) string {
		switch {
		case strings.HasPrefix(strings.ToLower(name), reservedPrefix):
			return "is reserved: Job Executor keeps its own annotations below " + reservedPrefix
		case len(validation.IsQualifiedName(strings.ToLower(name))) > 0:
			return "is not a valid annotation name, for example example.com/team"
		}
		return ""
	}, func() schema {
		return schema{"pattern": "^(" + prefixOfAnything + ")?" + nameOfLabel + "$", "not": schema{"type": "string", "pattern": reserved}}
	}, schema{})
}

// labels is a map of labels, or a selector. Reserved are the labels by which Jobs are found.
func labels(reserved ...string) kind[map[string]string] {
	names := func() schema {
		names := schema{"pattern": "^(" + prefixOfLabel + ")?" + nameOfLabel + "$"}
		if len(reserved) > 0 {
			names["not"] = schema{"type": "string", "pattern": "^(" + strings.ReplaceAll(strings.Join(reserved, "|"), ".", `\.`) + ")(/|$)"}
		}
		return names
	}
	of := pairs(func(name string) string {
		prefix, _, _ := strings.Cut(name, "/")
		switch {
		case slices.Contains(reserved, prefix), slices.Contains(reserved, name):
			return "is reserved: Job Executor finds Jobs and pods by this label"
		case len(validation.IsQualifiedName(name)) > 0:
			return "is not a valid label name, for example example.com/team"
		}
		return ""
	}, names, schema{"pattern": labelValue, "minimum": 0})
	return kind[map[string]string]{of.schema, func(d *decoder, at yamlValue, into *map[string]string) {
		of.read(d, at, into)
		for _, name := range slices.Sorted(maps.Keys(*into)) {
			if len(validation.IsValidLabelValue((*into)[name])) > 0 {
				d.wrong(at, "has %q for %s: a label value has at most 63 letters, digits, - _ or .", cut((*into)[name]), name)
			}
		}
	}}
}

// reservedLabels are those of Jobs, by their names or prefixes.
func reservedLabels() []string {
	return []string{"keptn.sh", "app.kubernetes.io/managed-by", "app.kubernetes.io/instance", "job-executor.github.io", "batch.kubernetes.io", "job-name", "controller-uid"}
}
