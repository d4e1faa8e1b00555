package jobconfig

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/job-executor/job-executor/functions/jobconfig/reader"
)

// Mistake is one thing that the author of a file has to mend, or in the list of
// warnings, should.
type Mistake = reader.Mistake

// Mistakes are all that is wrong with a file, in its order.
type Mistakes []Mistake

// maxTold is how many mistakes are told at once.
const maxTold = 20

// Error names the file and all mistakes, or the first of them if there are very many.
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
