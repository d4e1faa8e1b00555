package excerpt

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// Shorten truncates text in the middle so that it needs at most room bytes as JSON, with a note where the whole
// text is. It searches for the length, because escaping makes some characters longer.
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

// Writer keeps the beginning and the end of its input, in bounded memory.
type Writer struct {
	// Limit is how many bytes it keeps.
	Limit int
	// Whole says where the full text is.
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

// String returns the kept text as valid UTF-8.
func (w *Writer) String() string {
	if w.missing == 0 {
		return strings.ToValidUTF8(string(w.head)+string(w.tail), "\uFFFD")
	}
	return strings.ToValidUTF8(fmt.Sprintf("%s\n[… %d bytes are left out here; all of it: %s …]\n%s",
		w.head, w.missing, w.Whole, w.tail), "\uFFFD")
}
