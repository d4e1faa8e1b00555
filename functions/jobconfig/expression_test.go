package jobconfig

import (
	"strings"
	"testing"
)

// Expressions follow RFC 9535. Those of the job-executor-service, whose dialect is older, keep their meaning.
func TestTheDialectOfJSONPath(t *testing.T) {
	event := map[string]any{"data": map[string]any{
		"a-b": "dash", "a'b": "quote", `a"b`: "double", "deep": map[string]any{"name": "inner", "other": 1.0},
		"list": []any{map[string]any{"kind": "x", "size": 1.0}, map[string]any{"kind": "y", "size": 2.0}, map[string]any{"kind": "y", "size": 3.0}},
	}}
	tests := []struct{ path, want, err string }{
		{path: "$.data.deep.name", want: "inner"},
		{path: `$["data"]["a-b"]`, want: "dash"},
		{path: "$['data']['a-b']", want: "dash"},
		{path: `$.data['a\'b']`, want: "quote"},
		{path: `$.data["a'b"]`, want: "quote"},
		{path: `$.data['a"b']`, want: "double"},
		{path: `$.data['not closed]`, err: "unterminated string literal"},
		{path: `$["data"].deep["name"]`, want: "inner"},
		{path: "$.data.list[0].kind", want: "x"},
		{path: "$.data.list[-1].size", want: "3"},
		{path: "$.data.list[0:2].kind", want: `["x","y"]`},
		{path: "$.data.list[*].kind", want: `["x","y","y"]`},
		{path: "$.data.list[0,2].size", want: `[1,3]`},
		{path: "$.data.list[2,0].size", want: `[3,1]`},
		{path: "$.data.deep['other','name','*?..']", want: `[1,"inner"]`},
		{path: "$.data.deep.*", want: `["inner",1]`},
		{path: "$..name", want: `["inner"]`},
		{path: "$.data.list[?(@.kind=='y')].size", want: `[2,3]`},
		{path: "$.data.list[?@.kind=='y'].size", want: `[2,3]`},
		{path: "$.data.list[?(@.size>1)].kind", want: `["y","y"]`},
		{path: "$.data.list[?@.kind=='z'].size", want: `[]`},
		{path: "$..nothing", want: `[]`},
		{path: "$.data.deep", want: `{"name":"inner","other":1}`},
		{path: "$.data.nothing", err: "unknown key nothing"},
		{path: "$.data.nothing.more", err: "unknown key nothing"},
		{path: "$.data['deep'][0]", err: "index 0 out of bounds"},
		{path: "$.data.list[7]", err: "index 7 out of bounds"},
		{path: "$.[", err: "unexpected"},
		{path: "data.deep.name", err: "unexpected"},
		{path: "$.data.list[?match(@.kind,'y')]", err: "unknown function match"},
	}
	for _, test := range tests {
		t.Run(test.path, func(t *testing.T) {
			value, err := lookup(test.path, event)
			got := ""
			if err == nil {
				got = renderText(value)
			}
			if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestPathsThatCouldSelectTooMuchAreRefused(t *testing.T) {
	tests := map[string]string{
		"$..*":                       "",
		"$.*.*":                      "",
		"$.data['*..*?,,,,,,,,,$$']": "",
		`$.data["*..*?,,,,,,,,,$$", 'it\'s ..*..*']`: "",
		"$..*..*":                            "more than one ..",
		"$.*.*.*":                            "more than 2 wildcards",
		"$.a[?@.b[?@.c[?@.d]]]":              "more than 2 wildcards",
		"$.data.a[?$.data.b[*]]":             "a second $",
		"$[0,0,0][0,0,0][0,0,0][0,0,0]":      "", // 81 values at most
		"$[0,0,0][0,0,0][0,0,0][0,0,0][0,0]": "more than 8 commas",
		"$.a[?search(@.b, '(a{1000}){9}')]":  "is not a JSONPath",
		"$.a['b]":                            "is not a JSONPath",
	}
	for path, want := range tests {
		t.Run(path, func(t *testing.T) {
			err := checkPath(path)
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

// FuzzPath finds paths that panic or do not terminate, and accepted paths that cannot be looked up.
func FuzzPath(f *testing.F) {
	event := map[string]any{"data": map[string]any{"list": []any{map[string]any{"kind": "x"}, []any{[]any{1.0}}}, "name": "n"}}
	for _, path := range []string{"$.data.name", "$..kind", "$.data.list[?(@.kind=='x')]", "$.data['list'][0,1]", `$["data"]`, "$.data.list[0:2:1]"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if checkPath(path) != nil {
			return
		}
		if _, err := lookup(path, event); err != nil && strings.HasPrefix(err.Error(), "parsing ") {
			t.Errorf("%q is taken, but: %v", path, err)
		}
	})
}
