package documents

import (
	"fmt"
	"regexp"
	"strings"
)

// Block is a fenced block of a document.
type Block struct {
	// Document is the path of its file, from the repository's root, and Line where it begins.
	Document string
	Line     int
	// Language is the first word after the fence, and Mark the rest. A block of sh without a mark runs anywhere,
	// "cluster" is run by TestDocumentedCommands on the test cluster, and any other mark is the name of the
	// end-to-end test that runs it.
	Language, Mark string
	// Text is its content without the indentation of the fence.
	Text string
}

// String returns the place of the block.
func (b Block) String() string { return fmt.Sprintf("%s:%d", b.Document, b.Line) }

var fence = regexp.MustCompile("^( *)```(\\w*) ?(.*)$")

// BlocksOf returns the fenced blocks of a document's content.
func BlocksOf(document, content string) (blocks []Block) {
	var open *Block
	indentation := ""
	for index, line := range strings.Split(content, "\n") {
		found := fence.FindStringSubmatch(line)
		switch {
		case found == nil && open != nil:
			open.Text += strings.TrimPrefix(line, indentation) + "\n"
		case found == nil:
		case open == nil:
			indentation = found[1]
			open = &Block{Document: document, Line: index + 1, Language: found[2], Mark: found[3]}
		default:
			blocks = append(blocks, *open)
			open = nil
		}
	}
	return blocks
}
