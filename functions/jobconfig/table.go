package jobconfig

import (
	"maps"
)

// schema is a JSON Schema.
type schema map[string]any

// with returns the schema with more members. Later ones overwrite earlier ones.
func (s schema) with(more ...schema) schema {
	all := maps.Clone(s)
	for _, other := range more {
		maps.Copy(all, other)
	}
	return all
}

// kind describes the value of a key twice: by a function that parses it, and by a JSON Schema. Only the
// function checks rules that a schema cannot express.
type kind[T any] struct {
	// schema is a function because parsing a file does not need it.
	schema func() schema
	read   func(d *decoder, at yamlValue, into *T)
}

// property is a key of a map.
type property[S any] struct {
	name   string
	schema func() schema
	read   func(d *decoder, at yamlValue, into *S)
}

// key returns a property for a member of S. Editors show the text about it.
func key[S, T any](name, about string, of kind[T], member func(*S) *T, more ...schema) property[S] {
	return property[S]{
		name: name, schema: func() schema { return of.schema().with(schema{"description": about}).with(more...) },
		read: func(d *decoder, at yamlValue, into *S) { of.read(d, at, member(into)) },
	}
}

// example, otherwise and message return members of a schema for editors. Editors show the message instead of
// the validator's own (an extension of yaml-language-server).
func example(values ...any) schema { return schema{"examples": values} }

func otherwise(value any) schema { return schema{"default": value} }

func message(text string) schema { return schema{"errorMessage": text} }

// members are the values of a map. A missing key has a nil node.
type members map[string]yamlValue

// object is a map with known keys, or null. Check examines the map as a whole, and rules are the same checks as
// members of a schema; both may be nil. Keys with the prefix x- are ignored.
func object[S any](fields []property[S], check func(d *decoder, at yamlValue, given members, read *S), rules func() schema) kind[S] {
	return kind[S]{
		schema: func() schema {
			of := schema{
				"type": []string{"object", "null"}, "properties": propertiesOf(fields), "patternProperties": schema{"^x-": true}, "additionalProperties": false,
			}
			if rules != nil {
				return of.with(rules())
			}
			return of
		},
		read: func(d *decoder, at yamlValue, into *S) {
			given := members{}
			d.object(at, readersOf(d, fields, given, into))
			if check != nil {
				check(d, at, given, into)
			}
		},
	}
}

func propertiesOf[S any](fields []property[S]) schema {
	properties := schema{}
	for _, field := range fields {
		properties[field.name] = field.schema()
	}
	return properties
}

// namesOf returns the keys in the order of the table.
func namesOf[S any](fields []property[S]) (names []string) {
	for _, field := range fields {
		names = append(names, field.name)
	}
	return names
}

// readersOf returns the parser of each key of S. It also records the value as given.
func readersOf[S any](d *decoder, fields []property[S], given members, into *S) keyReaders {
	readers := keyReaders{}
	for _, field := range fields {
		readers[field.name] = func(at yamlValue) {
			given[field.name] = at
			field.read(d, at, into)
		}
	}
	return readers
}

// list is a list of values of one kind, or null. An empty map counts as an empty list, with a warning.
func list[T any](of kind[T]) kind[[]T] {
	return kind[[]T]{
		schema: func() schema {
			return schema{"type": []string{"array", "object", "null"}, "items": of.schema(), "maxProperties": 0, "errorMessage": "must be a list"}
		},
		read: func(d *decoder, at yamlValue, into *[]T) {
			d.list(at, func(at yamlValue) {
				var item T
				of.read(d, at, &item)
				*into = append(*into, item)
			})
		},
	}
}

// optional is a value or null, for which the pointer stays nil.
func optional[T any](of kind[T]) kind[*T] {
	return kind[*T]{of.schema, func(d *decoder, at yamlValue, into **T) {
		if !at.isNull() {
			*into = new(T)
			of.read(d, at, *into)
		}
	}}
}

// defined returns a kind whose schema refers to a definition of the whole schema.
func defined[T any](name string, of kind[T]) kind[T] {
	return kind[T]{func() schema { return schema{"$ref": "#/$defs/" + name} }, of.read}
}
