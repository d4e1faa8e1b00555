package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxDepth bounds the nesting of a report. Keptn stores it some levels below the root of a MongoDB document,
// which has at most 100 levels.
const maxDepth = 32

// decode decodes a JSON object and returns its mistakes with their places. The object must be well-formed and
// storable by Keptn: without duplicate members, NUL characters in names, too many levels, or numbers beyond
// float64.
func decode(text string) (data map[string]any, mistakes []string) {
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		var syntax *json.SyntaxError
		var mismatch *json.UnmarshalTypeError
		switch {
		case errors.As(err, &syntax):
			return nil, []string{fmt.Sprintf("it is not a JSON object: %s at byte %d", err, syntax.Offset)}
		case errors.As(err, &mismatch) && strings.HasPrefix(mismatch.Value, "number"):
			// encoding/json reads numbers as float64 here; the walk below names the member.
		default:
			return nil, []string{"it is not a JSON object, but a list; write {…}"}
		}
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	r := &reader{decoder: decoder}
	value, err := r.value("", 0)
	if err != nil { // it was read once already
		return nil, []string{fmt.Sprintf("it is not a JSON object: %s", err)}
	}
	data, isObject := value.(map[string]any)
	if !isObject {
		return nil, []string{"it is not a JSON object, but " + encoded(value)}
	}
	return data, r.mistakes
}

// reader reads JSON token by token, since a map keeps only the last of two members of one name.
type reader struct {
	decoder  *json.Decoder
	mistakes []string
}

func (r *reader) mistake(format string, arguments ...any) {
	r.mistakes = append(r.mistakes, fmt.Sprintf(format, arguments...))
}

func (r *reader) value(path string, depth int) (any, error) {
	token, err := r.decoder.Token()
	if err != nil {
		return nil, err
	}
	if depth == maxDepth+1 {
		r.mistake("%s is nested deeper than %d levels", path, maxDepth)
	}
	switch token := token.(type) {
	case json.Number:
		if number, err := strconv.ParseFloat(token.String(), 64); err != nil || math.IsInf(number, 0) {
			r.mistake("%s has the number %s, which is out of range", path, token)
		}
		return token, nil
	case json.Delim:
		if token == '{' {
			return r.object(path, depth)
		}
		return r.list(path, depth)
	default:
		return token, nil
	}
}

func (r *reader) object(path string, depth int) (any, error) {
	members := map[string]any{}
	for r.decoder.More() {
		token, err := r.decoder.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string) // a member's name is text
		member := strings.TrimPrefix(path+"."+name, ".")
		if strings.ContainsRune(name, 0) {
			r.mistake("the name of member %q contains a NUL character", member)
		}
		if _, known := members[name]; known {
			r.mistake("member %s is a duplicate", member)
		}
		if members[name], err = r.value(member, depth+1); err != nil {
			return nil, err
		}
	}
	return members, r.end()
}

func (r *reader) list(path string, depth int) (any, error) {
	items := []any{}
	for r.decoder.More() {
		item, err := r.value(fmt.Sprintf("%s[%d]", path, len(items)), depth+1)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, r.end()
}

// end reads the closing delimiter.
func (r *reader) end() error {
	_, err := r.decoder.Token()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// encoded returns a value as JSON.
func encoded(value any) string {
	content, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(content)
}

func sortedKeys(data map[string]any) []string { return slices.Sorted(maps.Keys(data)) }
