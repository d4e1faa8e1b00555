package redact

import (
	"io"
	"strings"
	"unicode/utf8"
)

// maxLineBytes bounds how much of a line is held back for a carriage return that may
// overwrite it.
const maxLineBytes = 64 << 10

// The parts of a terminal's escape sequence (ECMA-48): CSI moves the cursor and sets
// colours, OSC sets titles and links.
type escapeState int

const (
	noEscape escapeState = iota
	afterEscape
	inCSI
	inOSC
	inOSCAfterEscape
)

// cleaner writes text as a terminal would show it: without escape sequences and control
// characters, and of each line only what was written after its last carriage return.
type cleaner struct {
	to io.Writer

	line []byte
	// overwrite is true after a carriage return: the next character replaces the line.
	overwrite bool
	escape    escapeState
	// parameters are those of the CSI sequence so far.
	parameters []byte
	// partial is the beginning of a character whose bytes have not all arrived.
	partial []byte
}

// Write returns the error of the underlying writer.
func (c *cleaner) Write(content []byte) (int, error) {
	written := len(content)
	if len(c.partial) > 0 {
		content = append(c.partial, content...)
		c.partial = nil
	}
	for len(content) > 0 {
		if !utf8.FullRune(content) {
			c.partial = append([]byte(nil), content...)
			break
		}
		char, size := utf8.DecodeRune(content)
		content = content[size:]
		if err := c.put(char); err != nil {
			return 0, err
		}
	}
	return written, nil
}

// Close writes the last line. It does not close the underlying writer.
func (c *cleaner) Close() error {
	if len(c.partial) > 0 {
		c.partial = nil
		if err := c.put(utf8.RuneError); err != nil {
			return err
		}
	}
	return c.flush()
}

func (c *cleaner) flush() error {
	_, err := c.to.Write(c.line)
	c.line = c.line[:0]
	return err
}

const (
	maxParameterBytes = 32

	escapeChar = '\x1b'
	bell       = '\a'
	csi        = '\u009b'
	osc        = '\u009d'
	st         = '\u009c'
)

func (c *cleaner) put(char rune) error {
	if c.escape != noEscape && char != '\n' {
		c.sequence(char)
		return nil
	}
	c.escape = noEscape // no sequence goes on after the end of its line
	switch {
	case char == escapeChar:
		c.escape = afterEscape
	case char == csi:
		c.escape, c.parameters = inCSI, c.parameters[:0]
	case char == osc:
		c.escape = inOSC
	case char == '\r':
		c.overwrite = true
	case char == '\b':
		if len(c.line) > 0 {
			_, size := utf8.DecodeLastRune(c.line)
			c.line = c.line[:len(c.line)-size]
		}
	case char == '\n':
		c.overwrite = false
		c.line = append(c.line, '\n')
		return c.flush()
	case char < ' ' && char != '\t' || char >= 0x7f && char < 0xa0:
	default:
		if c.overwrite {
			c.line, c.overwrite = c.line[:0], false
		}
		c.line = utf8.AppendRune(c.line, char)
		if len(c.line) >= maxLineBytes {
			return c.flush()
		}
	}
	return nil
}

// sequence takes the next character of an escape sequence.
func (c *cleaner) sequence(char rune) {
	switch c.escape {
	case afterEscape:
		switch {
		case char == '[':
			c.escape, c.parameters = inCSI, c.parameters[:0]
		case char == ']':
			c.escape = inOSC
		case char < ' ' || char > '/': // anything else is an intermediate character
			c.escape = noEscape
		}
	case inCSI:
		if char >= '@' && char <= '~' {
			c.escape = noEscape
			c.cursor(char, string(c.parameters))
		} else if len(c.parameters) < maxParameterBytes {
			c.parameters = utf8.AppendRune(c.parameters, char)
		}
	case inOSC:
		switch char {
		case bell, st:
			c.escape = noEscape
		case escapeChar:
			c.escape = inOSCAfterEscape
		}
	case inOSCAfterEscape:
		c.escape = noEscape
	}
}

// cursor executes the CSI sequences by which progress bars rewrite their line.
func (c *cleaner) cursor(command rune, parameters string) {
	switch {
	case command == 'G' && (parameters == "" || parameters == "0" || parameters == "1"):
		c.overwrite = true
	case command == 'K' && parameters == "2":
		c.line = c.line[:0]
	}
}

// Clean returns text as a terminal would show it.
func Clean(text string) string {
	var cleaned strings.Builder
	c := cleaner{to: &cleaned}
	_, _ = c.Write([]byte(text)) // a strings.Builder never fails
	_ = c.Close()
	return cleaned.String()
}
