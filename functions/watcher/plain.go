package watcher

import (
	"regexp"
	"strings"
)

// escapes matches terminals' escape sequences: colours and cursor movements (CSI),
// titles and links (OSC), and the others (ECMA-48).
var escapes = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]`)

// plain returns a text without escape sequences and control characters: in JSON each
// of them would take six bytes, and on Keptn's page none of them says anything.
func plain(text string) string {
	text = escapes.ReplaceAllString(text, "")
	return strings.Map(func(character rune) rune {
		switch {
		case character == '\n' || character == '\t':
			return character
		case character < ' ' || character >= 0x7f && character < 0xa0:
			return -1
		default:
			return character
		}
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
