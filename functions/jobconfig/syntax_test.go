package jobconfig

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A syntax error has the line and column of its cause.
func TestTreeNamesThePlaceOfWhatIsNoYAML(t *testing.T) {
	head := "apiVersion: v2\nactions:\n- name: A\n  events: [{name: test}]\n  tasks:\n  - name: T\n    image: alpine\n"
	const indentation = "this does not match the lines above; check the indentation"
	tests := []struct {
		name, content string
		want          Mistake
	}{
		{name: "a line that is indented too much", content: head + "    cmd: [sh]\n      args: [x]\n", want: Mistake{Line: 9, Column: 7, Text: indentation}},
		{
			name:    "a line that is indented too little",
			content: head + "    cmd: [sh]\n   args: [x]\n    env: []\n",
			want:    Mistake{Line: 9, Column: 4, Text: indentation},
		},
		{
			name: "a list that is not closed", content: head + "    cmd: [sh, -c\n    args: [x]\n",
			want: Mistake{Line: 8, Column: 10, Text: "a closing ] or a comma is missing in this list"},
		},
		{
			name: "a map that is not closed", content: head + "    env: [{name: a, value: b]\n    args: [x]\n",
			want: Mistake{Line: 8, Column: 11, Text: "a closing } or a comma is missing in this map"},
		},
		{name: "a tab", content: head + "\tcmd: [sh]\n", want: Mistake{Line: 8, Column: 1, Text: "tab character; indent with spaces"}},
		{
			name:    "a quote that is not closed",
			content: head + "    cmd: \"sh\n    args: [x]\n",
			want:    Mistake{Line: 8, Column: 10, Text: "the closing quote is missing"},
		},
		{
			name: "a colon in a text", content: head + "    cmd: a: b\n    args: [x]\n",
			want: Mistake{Line: 8, Column: 11, Text: "a key is not allowed here; check the indentation, and quote text that contains a colon"},
		},
		{
			name:    "a reserved character",
			content: head + "    cmd: @b\n",
			want:    Mistake{Line: 8, Column: 10, Text: "a value cannot begin with this character; quote the text"},
		},
		{
			name: "an asterisk", content: head + "    cmd: *.txt\n",
			want: Mistake{Line: 8, Column: 10, Text: "unknown anchor (&); quote text that begins with *"},
		},
		{
			name:    "a key without a colon",
			content: head + "    cmd\n    args: [x]\n",
			want:    Mistake{Line: 8, Column: 5, Text: "a colon and a space are missing after this key"},
		},
		{
			name:    "an unknown escape",
			content: head + "    cmd: \"\\q\"\n",
			want:    Mistake{Line: 8, Column: 11, Text: "unknown escape in double quotes"},
		},
		{
			name: "a control character", content: head + "    cmd: \x01x\n",
			want: Mistake{Line: 8, Column: 10, Text: "control characters are not allowed"},
		},
		{name: "no UTF-8", content: head + "    cmd: \xffx\n", want: Mistake{Line: 8, Column: 10, Text: "invalid UTF-8"}},
		{
			name: "a second document", content: head + "---\napiVersion: v2\n",
			want: Mistake{Line: 8, Column: 1, Text: "a second document (---) is ignored; move its actions into the first"},
		},
		{
			name:    "a second document that is none",
			content: head + "---\na: [",
			want:    Mistake{Line: 10, Column: 1, Text: "the value is missing; quote text that begins with a special character"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root, wrong := parseTree([]byte(test.content))
			if difference := cmp.Diff(&test.want, wrong); difference != "" || root != nil {
				t.Errorf("got a tree: %t, (-want +got):\n%s", root != nil, difference)
			}
		})
	}
}
