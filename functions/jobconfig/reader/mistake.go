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
func (mistake Mistake) String() string {
	if mistake.Line == 0 {
		return mistake.Text
	}
	return fmt.Sprintf("line %d, column %d: %s", mistake.Line, mistake.Column, mistake.Text)
}
