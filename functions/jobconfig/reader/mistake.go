package reader

import "fmt"

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
