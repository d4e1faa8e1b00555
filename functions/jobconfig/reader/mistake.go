package reader

import "fmt"

// Mistake is one thing that the author of a file has to mend, or in the list of
// warnings, should.
type Mistake struct {
	// Line and Column are where it stands, from 1; 0 if it stands nowhere.
	Line, Column int
	// Path is what it is about, as actions[0].name; empty if that is the whole file.
	Path string
	// Text is a sentence for the author, with the path.
	Text string
}

// String is the sentence with its place.
func (m Mistake) String() string {
	if m.Line == 0 {
		return m.Text
	}
	return fmt.Sprintf("line %d, column %d: %s", m.Line, m.Column, m.Text)
}
