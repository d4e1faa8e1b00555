package reader

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A syntax error has the line and column of its cause.
func TestTreeNamesThePlaceOfWhatIsNoYAML(t *testing.T) {
	head := "apiVersion: v2\nactions:\n- name: A\n  events: [{name: test}]\n  tasks:\n  - name: T\n    image: alpine\n"
	const indentation = "this does not fit what stands before it; look at the indentation"
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
			want: Mistake{Line: 8, Column: 10, Text: "this list is not closed by ], or a comma is missing in it"},
		},
		{
			name: "a map that is not closed", content: head + "    env: [{name: a, value: b]\n    args: [x]\n",
			want: Mistake{Line: 8, Column: 11, Text: "this map is not closed by }, or a comma is missing in it"},
		},
		{name: "a tab", content: head + "\tcmd: [sh]\n", want: Mistake{Line: 8, Column: 1, Text: "tab character; indent with spaces"}},
		{
			name:    "a quote that is not closed",
			content: head + "    cmd: \"sh\n    args: [x]\n",
			want:    Mistake{Line: 8, Column: 10, Text: "this text in quotes is not closed"},
		},
		{
			name: "a colon in a text", content: head + "    cmd: a: b\n    args: [x]\n",
			want: Mistake{Line: 8, Column: 11, Text: "there can't be a key here; look at the indentation, and quote a text that has a colon"},
		},
		{
			name:    "a reserved character",
			content: head + "    cmd: @b\n",
			want:    Mistake{Line: 8, Column: 10, Text: "no value can begin by this character; quote the text"},
		},
		{
			name: "an asterisk", content: head + "    cmd: *.txt\n",
			want: Mistake{Line: 8, Column: 10, Text: "there is no anchor (&) of this name; quote a text that begins by *"},
		},
		{
			name:    "a key without a colon",
			content: head + "    cmd\n    args: [x]\n",
			want:    Mistake{Line: 8, Column: 5, Text: "there is no colon with a blank after this key"},
		},
		{
			name:    "an unknown escape",
			content: head + "    cmd: \"\\q\"\n",
			want:    Mistake{Line: 8, Column: 11, Text: "there is no such escape in a text in double quotes"},
		},
		{
			name: "a control character", content: head + "    cmd: \x01x\n",
			want: Mistake{Line: 8, Column: 10, Text: "there is a control character here, which can't be in a file"},
		},
		{name: "no UTF-8", content: head + "    cmd: \xffx\n", want: Mistake{Line: 8, Column: 10, Text: "this is no UTF-8 text"}},
		{
			name: "a second document", content: head + "---\napiVersion: v2\n",
			want: Mistake{Line: 8, Column: 1, Text: "a second document begins here (---), which nobody reads; put its actions into the first"},
		},
		{
			name:    "a second document that is none",
			content: head + "---\na: [",
			want:    Mistake{Line: 10, Column: 1, Text: "there is no value here; quote a text that begins by such a character"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root, wrong := Tree([]byte(test.content))
			if difference := cmp.Diff(&test.want, wrong); difference != "" || root != nil {
				t.Errorf("got a tree: %t, (-want +got):\n%s", root != nil, difference)
			}
		})
	}
}
