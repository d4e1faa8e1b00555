package console

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Terminal shows lines as they happen: in a terminal with colours and a status line, elsewhere or with NO_COLOR
// plainly.
type Terminal struct {
	out   *os.File
	fancy bool

	mutex  sync.Mutex
	began  time.Time
	status string
}

// NewTerminal returns a terminal for a file.
func NewTerminal(out *os.File) *Terminal {
	fancy := term.IsTerminal(int(out.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return &Terminal{out: out, fancy: fancy, began: time.Now()}
}

// Begin resets the clock of lines.
func (t *Terminal) Begin() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.began = time.Now()
}

// Colours of ANSI terminals.
const (
	grey   = "90"
	red    = "31"
	green  = "32"
	blue   = "34"
	bold   = "1"
	width  = 78
	noTail = 3
)

func (t *Terminal) paint(colour, text string) string {
	if !t.fancy || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// Heading prints the heading of a section.
func (t *Terminal) Heading(text string) {
	t.print("\n" + t.paint(bold, "── "+text+" "+strings.Repeat("─", max(0, width-len([]rune(text))-noTail))) + "\n")
}

// Say prints a line of text.
func (t *Terminal) Say(text string) { t.print(text) }

// Indented prints an indented text.
func (t *Terminal) Indented(text string) {
	t.print("    " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    "))
}

// Line prints an occurrence: its actor, the recipient (if any), and the action.
func (t *Terminal) Line(from, to, what string) {
	colour := ""
	switch {
	case strings.Contains(what, "fail"), strings.Contains(what, "errored"), strings.Contains(what, "aborted"):
		colour = red
	case strings.Contains(what, "succeeded"), strings.Contains(what, "finished"):
		colour = green
	case strings.Contains(what, "triggered"):
		colour = blue
	}
	if colour != "" {
		what = t.paint(colour, what)
	}
	t.mutex.Lock()
	elapsed := time.Since(t.began)
	t.mutex.Unlock()
	way := from
	if to != "" {
		way += " → " + to
	}
	const column = 30
	padding := strings.Repeat(" ", max(1, column-len([]rune(way))))
	t.print(t.paint(grey, fmt.Sprintf("%7.2f s  ", elapsed.Seconds())) + way + padding + what)
}

// Status shows a line that the next one replaces, only in a terminal.
func (t *Terminal) Status(text string) {
	if !t.fancy {
		return
	}
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if text != t.status {
		fmt.Fprintf(t.out, "\r\x1b[K%s", t.paint(grey, text))
		t.status = text
	}
}

func (t *Terminal) print(text string) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.status != "" {
		fmt.Fprint(t.out, "\r\x1b[K")
		t.status = ""
	}
	fmt.Fprintln(t.out, text)
}

// ShowEvent prints the event with the beginning of its message, before the log.
func (t *Terminal) ShowEvent(finished Event) error {
	var event map[string]any
	if err := json.Unmarshal(finished.Raw, &event); err != nil {
		return fmt.Errorf("read the finished event: %w", err)
	}
	data, _ := event["data"].(map[string]any)
	message := []rune(finished.Data.Message)
	const shown = 100
	if data != nil && len(message) > shown {
		data["message"] = fmt.Sprintf("%s… (%d characters, with the log below)", string(message[:shown]), len(message))
	}
	content, err := json.MarshalIndent(event, "", "  ")
	if err != nil {
		return fmt.Errorf("print the finished event: %w", err)
	}
	t.Indented(string(content))
	return nil
}
