package expression

import (
	"strings"
	"testing"
)

// The dialect of JSONPath is that of the job-executor-service, whose library is used
// (PaesslerAG/jsonpath, of which there is no newer version): what its users write keeps
// its meaning.
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
		{path: `$.data['not closed]`, err: "could not parse string"},
		{path: `$["data"].deep["name"]`, want: "inner"},
		{path: "$.data.list[0].kind", want: "x"},
		{path: "$.data.list[-1].size", err: "index -1 out of bounds"},
		{path: "$.data.list[0:2].kind", want: `["x","y"]`},
		{path: "$.data.list[*].kind", want: `["x","y","y"]`},
		{path: "$.data.list[0,2].size", want: `[1,3]`},
		{path: "$..name", want: `["inner"]`},
		{path: "$.data.list[?(@.kind=='y')].size", want: `[2,3]`},
		{path: "$.data.list[?(@.size>1)].kind", err: "unexpected"},
		{path: "$.data.deep", want: `{"name":"inner","other":1}`},
		{path: "$.data.nothing", err: "unknown key nothing"},
		{path: "$.data.list[7]", err: "index 7 out of bounds"},
		{path: "$.[", err: "unexpected"},
	}
	for _, test := range tests {
		t.Run(test.path, func(t *testing.T) {
			value, err := Lookup(test.path, event)
			got := ""
			if err == nil {
				got = Text(value)
			}
			if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
