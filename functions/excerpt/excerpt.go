package excerpt

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
		writer := Writer{Limit: limit, Whole: whole}
		_, _ = writer.Write([]byte(text))
		return writer.String()
	}
	tooMuch := sort.Search(min(len(text), room)+1, func(limit int) bool { return !fits(cut(limit)) })
	if tooMuch == 0 {
		return ""
	}
	return cut(tooMuch - 1)
}

// Writer keeps the beginning and the end of what is written,
// in bounded memory.
type Writer struct {
	// Limit is how many bytes are kept.
	Limit int
	// Whole says where all of it can be read.
	Whole string

	head, tail []byte
	missing    int
}

// Write never fails.
func (w *Writer) Write(content []byte) (int, error) {
	written := len(content)
	half := w.Limit / 2
	if room := half - len(w.head); room > 0 {
		taken := min(room, len(content))
		w.head = append(w.head, content[:taken]...)
		content = content[taken:]
	}
	w.tail = append(w.tail, content...)
	if surplus := len(w.tail) - half; surplus > 0 {
		w.missing += surplus
		w.tail = append(w.tail[:0], w.tail[surplus:]...)
	}
	return written, nil
}

// String returns what was kept, as valid UTF-8.
func (w *Writer) String() string {
	if w.missing == 0 {
		return strings.ToValidUTF8(string(w.head)+string(w.tail), "\uFFFD")
	}
	return strings.ToValidUTF8(fmt.Sprintf("%s\n[… %d bytes are left out here; all of it: %s …]\n%s",
		w.head, w.missing, w.Whole, w.tail), "\uFFFD")
}
