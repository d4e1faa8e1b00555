package jobconfig

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/job-executor/job-executor/functions/jobconfig/reader"
)

// Mistake is an error in a file that its author must fix, or a warning.
type Mistake = reader.Mistake

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
	fmt.Fprintf(&text, "%s is not valid, it has %d mistakes:", Path, len(m))
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
