package jobconfig

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Mistake is an error in a file that its author must fix, or a warning.
type Mistake struct {
	// Line and Column start at 1; 0 is unknown.
	Line, Column int
	// Path is the path of the value, such as actions[0].name; empty for the whole file.
	Path string
	// Text is a sentence for the author that includes the path.
	Text string
}

// String returns the position and the sentence.
func (m Mistake) String() string {
	if m.Line == 0 {
		return m.Text
	}
	return fmt.Sprintf("line %d, column %d: %s", m.Line, m.Column, m.Text)
}

// Mistakes are the mistakes of a file in its order.
type Mistakes []Mistake

// maxTold bounds the listed mistakes.
const maxTold = 20

// Error lists the mistakes of the file, or the first of very many.
func (m Mistakes) Error() string {
	if len(m) == 1 {
		return Path + " is not valid: " + m[0].String()
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s is not valid: %d mistakes:", Path, len(m))
	for index, mistake := range m {
		if index == maxTold {
			fmt.Fprintf(&text, "\n- and %d more", len(m)-maxTold)
			break
		}
		fmt.Fprintf(&text, "\n- %s", mistake)
	}
	return text.String()
}

func (m Mistakes) sorted() Mistakes {
	slices.SortStableFunc(m, func(one, other Mistake) int {
		return cmp.Or(cmp.Compare(one.Line, other.Line), cmp.Compare(one.Column, other.Column))
	})
	return m
}
