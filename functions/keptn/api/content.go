package api

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// contentMember is the member of resource-service's response with a file's content in base64 (recording
// 63-resources).
const contentMember = "resourceContent"

// newContentReader decodes the content of a file from resource-service's response as a stream: encoding/json
// would hold it as a whole.
func newContentReader(answer io.Reader) (io.Reader, error) {
	decoder := json.NewDecoder(answer)
	if first, err := decoder.Token(); err != nil || first != json.Delim('{') {
		return nil, errors.Join(errors.New("not a JSON object"), err)
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, fmt.Errorf("look for %s: %w", contentMember, err)
		}
		if name == contentMember {
			rest := bufio.NewReader(io.MultiReader(decoder.Buffered(), answer))
			if _, err := rest.ReadString(':'); err != nil {
				return nil, fmt.Errorf("read %s: %w", contentMember, err)
			}
			return base64.NewDecoder(base64.StdEncoding, &textReader{reader: rest}), nil
		}
		var skipped json.RawMessage
		if err := decoder.Decode(&skipped); err != nil {
			return nil, fmt.Errorf("read member %s: %w", name, err)
		}
	}
	// The closing brace distinguishes an object without the member from a truncated one.
	_, err := decoder.Token()
	return nil, errors.Join(errors.New("it has no "+contentMember), err)
}

// textReader reads a JSON string in base64, in which only / can be escaped.
type textReader struct {
	reader                 *bufio.Reader
	opened, ended, escaped bool
}

// Read reads to the closing quote.
func (t *textReader) Read(buffer []byte) (int, error) {
	for read := 0; ; {
		if t.ended {
			return read, io.EOF
		}
		if read == len(buffer) {
			return read, nil
		}
		character, err := t.reader.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			return read, io.ErrUnexpectedEOF
		case err != nil:
			return read, err
		case character == '"' && !t.escaped:
			t.opened, t.ended = true, t.opened
		case !t.opened && character != ' ' && character != '\t' && character != '\n' && character != '\r':
			return read, errors.New(contentMember + " is no text")
		case character == '\\' && !t.escaped:
			t.escaped = true
		case t.escaped && character != '/':
			return read, errors.New(contentMember + " is no base64")
		case t.opened:
			buffer[read], t.escaped = character, false
			read++
		}
	}
}
