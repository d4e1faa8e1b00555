package run

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// Shorten returns as much of a text as fits into room bytes of JSON: its beginning and
// its end, and a note that says where all of it is. How much room a character needs
// depends on how it is escaped, so it is searched for.
func Shorten(text, whole string, room int) string {
	fits := func(text string) bool {
		encoded, err := json.Marshal(text)
		return err == nil && len(encoded) <= room
	}
	if fits(text) {
		return text
	}
	cut := func(limit int) string {
		excerpt := Excerpt{Limit: limit, Whole: whole}
		_, _ = excerpt.Write([]byte(text))
		return excerpt.String()
	}
	tooMuch := sort.Search(min(len(text), room)+1, func(limit int) bool { return !fits(cut(limit)) })
	if tooMuch == 0 {
		return ""
	}
	return cut(tooMuch - 1)
}

// Excerpt is a writer that keeps the beginning and the end of what is written,
// in bounded memory.
type Excerpt struct {
	// Limit is how many bytes are kept.
	Limit int
	// Whole says where all of it can be read.
	Whole string

	head, tail []byte
	missing    int
}

// Write never fails.
func (excerpt *Excerpt) Write(content []byte) (int, error) {
	written := len(content)
	half := excerpt.Limit / 2
	if room := half - len(excerpt.head); room > 0 {
		taken := min(room, len(content))
		excerpt.head = append(excerpt.head, content[:taken]...)
		content = content[taken:]
	}
	excerpt.tail = append(excerpt.tail, content...)
	if surplus := len(excerpt.tail) - half; surplus > 0 {
		excerpt.missing += surplus
		excerpt.tail = append(excerpt.tail[:0], excerpt.tail[surplus:]...)
	}
	return written, nil
}

// String returns what was kept, as valid UTF-8.
func (excerpt *Excerpt) String() string {
	if excerpt.missing == 0 {
		return strings.ToValidUTF8(string(excerpt.head)+string(excerpt.tail), "\uFFFD")
	}
	return strings.ToValidUTF8(fmt.Sprintf("%s\n[… %d bytes are left out here; all of it: %s …]\n%s",
		excerpt.head, excerpt.missing, excerpt.Whole, excerpt.tail), "\uFFFD")
}
