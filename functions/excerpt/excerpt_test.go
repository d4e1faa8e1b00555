package excerpt

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExcerptKeepsTheBeginningAndTheEnd(t *testing.T) {
	tests := []struct {
		name, content, want string
		limit               int
	}{
		{name: "short text is unchanged", content: "0123456789", want: "0123456789", limit: 10},
		{
			name:    "long text is truncated in the middle",
			content: "0123456789abcdef",
			want:    "0123\n[… 8 bytes are left out here; all of it: there …]\ncdef",
			limit:   8,
		},
		{name: "half a character is replaced", content: "ä23456ö", want: "\uFFFD\n[… 7 bytes are left out here; all of it: there …]\n\uFFFD", limit: 2},
	}
	for _, test := range tests {
		for _, chunk := range []int{1, 3, 100} {
			t.Run(fmt.Sprintf("%s, written by %d", test.name, chunk), func(t *testing.T) {
				writer := Writer{Limit: test.limit, Whole: "there"}
				for content := []byte(test.content); len(content) > 0; content = content[min(chunk, len(content)):] {
					if _, err := writer.Write(content[:min(chunk, len(content))]); err != nil {
						t.Fatal(err)
					}
				}
				if difference := cmp.Diff(test.want, writer.String()); difference != "" {
					t.Errorf("(-want +got):\n%s", difference)
				}
			})
		}
	}
}

func TestShortenFitsJSON(t *testing.T) {
	for _, text := range []string{strings.Repeat("a", 5000), strings.Repeat("<", 5000), strings.Repeat("\x00", 5000), strings.Repeat("😀", 5000), "short"} {
		got := Shorten(text, "there", 1000)
		encoded, err := json.Marshal(got)
		if err != nil || len(encoded) > 1000 || len(got) < 5 || text == "short" && got != text {
			t.Errorf("%.10q became %d bytes of JSON: %v", text, len(encoded), err)
		}
	}
}
