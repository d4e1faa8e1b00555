package keptn

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// contentMember is the member of resource-service's answer that has a file's
// content, in base64 (recording 63-resources).
const contentMember = "resourceContent"

// maxMemberName bounds the name of a member that is looked at.
const maxMemberName = 1 << 10

var errNotJSON = errors.New("it is no JSON object")

// newContentReader returns the decoded content of a file from resource-service's
// answer, without ever holding all of it: encoding/json reads a string whole.
func newContentReader(answer io.Reader) (io.Reader, error) {
	scanner := &memberScanner{bufio.NewReader(answer)}
	if first, err := scanner.next(); err != nil || first != '{' {
		return nil, errors.Join(errNotJSON, err)
	}
	for {
		first, err := scanner.next()
		switch {
		case err != nil:
			return nil, fmt.Errorf("looking for %s: %w", contentMember, unexpected(err))
		case first == ',':
			continue
		case first == '}':
			return nil, errors.New("it has no " + contentMember)
		case first != '"':
			return nil, errNotJSON
		}
		name, err := io.ReadAll(io.LimitReader(&stringReader{reader: scanner.Reader}, maxMemberName))
		if err != nil {
			return nil, fmt.Errorf("reading a member's name: %w", err)
		}
		if colon, err := scanner.next(); err != nil || colon != ':' {
			return nil, errors.Join(errNotJSON, err)
		}
		value, err := scanner.next()
		if err != nil {
			return nil, fmt.Errorf("reading member %s: %w", name, unexpected(err))
		}
		if string(name) == contentMember {
			if value != '"' {
				return nil, errors.New(contentMember + " is no text")
			}
			return base64.NewDecoder(base64.StdEncoding, &stringReader{reader: scanner.Reader}), nil
		}
		if err := scanner.skip(value); err != nil {
			return nil, fmt.Errorf("reading member %s: %w", name, unexpected(err))
		}
	}
}

// unexpected is the error for JSON that ends too early.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// memberScanner goes through the members of a JSON object.
type memberScanner struct{ *bufio.Reader }

// next returns the next byte that is no white space.
func (scanner *memberScanner) next() (byte, error) {
	for {
		character, err := scanner.ReadByte()
		if err != nil {
			return 0, err
		}
		switch character {
		case ' ', '\t', '\r', '\n':
		default:
			return character, nil
		}
	}
}

// skip reads to the end of a value, of which it is given the first byte.
func (scanner *memberScanner) skip(first byte) error {
	depth := 0
	for character := first; ; {
		switch character {
		case '"':
			if _, err := io.Copy(io.Discard, &stringReader{reader: scanner.Reader}); err != nil {
				return err
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if depth == 0 && (character == '"' || character == '}' || character == ']') {
			return nil
		}
		next, err := scanner.ReadByte()
		if err != nil {
			return err
		}
		if depth == 0 && (next == ',' || next == '}') { // a number, true, false or null has ended
			return scanner.UnreadByte()
		}
		character = next
	}
}

// stringReader reads the rest of a JSON string, after its opening quote.
type stringReader struct {
	reader *bufio.Reader
	ended  bool
	rest   []byte // of a character that was escaped
}

// Read unescapes what it reads.
func (text *stringReader) Read(buffer []byte) (int, error) {
	read := 0
	for read < len(buffer) {
		if len(text.rest) > 0 {
			buffer[read], text.rest = text.rest[0], text.rest[1:]
			read++
			continue
		}
		if text.ended {
			return read, io.EOF
		}
		character, err := text.reader.ReadByte()
		if err != nil {
			return read, unexpected(err)
		}
		switch character {
		case '"':
			text.ended = true
		case '\\':
			if text.rest, err = text.escaped(); err != nil {
				return read, unexpected(err)
			}
		default:
			buffer[read] = character
			read++
		}
	}
	return read, nil
}

// escaped reads what follows a backslash.
func (text *stringReader) escaped() ([]byte, error) {
	character, err := text.reader.ReadByte()
	if err != nil {
		return nil, err
	}
	switch character {
	case '"', '\\', '/':
		return []byte{character}, nil
	case 'b', 'f', 'n', 'r', 't':
		return []byte{map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}[character]}, nil
	case 'u':
		var code [4]byte
		if _, err := io.ReadFull(text.reader, code[:]); err != nil {
			return nil, err
		}
		var unit rune
		if _, err := fmt.Sscanf(string(code[:]), "%04x", &unit); err != nil {
			return nil, errors.New("it has an escape that is none")
		}
		return utf8.AppendRune(nil, unit), nil
	default:
		return nil, errors.New("it has an escape that is none")
	}
}
