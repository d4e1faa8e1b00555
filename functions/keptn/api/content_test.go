package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestContentIsReadFromWhereverItStands(t *testing.T) {
	tests := []struct{ name, answer, want, err string }{
		{
			name:   "as Keptn sends it",
			answer: `{"resourceURI":"job%2Fconfig.yaml","resourceContent":"aGVsbG8=","metadata":{"branch":"main"}}`,
			want:   "hello",
		},
		{name: "first", answer: `{"resourceContent":"aGVsbG8="}`, want: "hello"},
		{
			name:   "after values of all kinds",
			answer: ` { "a" : [1,"]",{"resourceContent":"eA=="}] , "b":{"c":"}"}, "d":null, "e":-1.5e3 ,"f":true,"g":"\"\\", "resourceContent" : "aGVsbG8=" }`,
			want:   "hello",
		},
		{name: "an escaped name", answer: `{"resource\u0043ontent":"aGVsbG8="}`, want: "hello"},
		{name: "an escaped slash", answer: `{"resourceContent":"Pz8\/Pw=="}`, want: "????"},
		{name: "empty", answer: `{"resourceContent":""}`},
		{name: "another escape", answer: `{"resourceContent":"aGVs\nbG8="}`, err: "resourceContent is no base64"},
		{name: "none", answer: `{"resourceURI":"x"}`, err: "it has no resourceContent"},
		{name: "truncated after the content", answer: `{"resourceURI":"x"`, err: "it has no resourceContent\nEOF"},
		{name: "no text", answer: `{"resourceContent":1}`, err: "resourceContent is no text"},
		{name: "no object", answer: `["resourceContent"]`, err: "not a JSON object"},
		{name: "truncated in the content", answer: `{"resourceContent":"aGVs`, err: "unexpected EOF"},
		{name: "truncated before the content", answer: `{"resourceURI":"x`, err: "read member resourceURI: unexpected EOF"},
		{name: "no base64", answer: `{"resourceContent":"????"}`, err: "illegal base64 data at input byte 0"},
		{name: "nothing", answer: ``, err: "not a JSON object\nEOF"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			reader, err := newContentReader(iotest.OneByteReader(strings.NewReader(test.answer)))
			var content []byte
			if err == nil {
				content, err = io.ReadAll(reader)
			}
			message := ""
			if err != nil {
				message = err.Error()
			}
			if message != test.err || err == nil && string(content) != test.want {
				t.Errorf("got %q, %q", content, message)
			}
		})
	}
}

// The content equals encoding/json's for every JSON object.
func FuzzContentReader(f *testing.F) {
	f.Add(`{"resourceURI":"x","resourceContent":"aGVsbG8=","metadata":{"branch":"main"}}`)
	f.Add(`{"a":[{"b":"]"}],"resourceContent":"Pz8\/Pw=="}`)
	f.Add(`{"a":1e3,"b":null,"resourceContent":""}`)
	f.Fuzz(func(t *testing.T, answer string) {
		reader, err := newContentReader(strings.NewReader(answer))
		var content []byte
		if err == nil {
			content, err = io.ReadAll(reader)
		}
		var members map[string]json.RawMessage
		var encoded string
		if strings.Count(answer, "esource") != 1 || strings.Contains(answer, `\u`) || !json.Valid([]byte(answer)) ||
			json.Unmarshal([]byte(answer), &members) != nil ||
			members[contentMember] == nil || json.Unmarshal(members[contentMember], &encoded) != nil ||
			!strings.HasPrefix(string(members[contentMember]), `"`) {
			return
		}
		want, wantErr := base64.StdEncoding.DecodeString(encoded)
		if (wantErr == nil) != (err == nil) || err == nil && !bytes.Equal(content, want) {
			t.Errorf("%q: got %q, %v; want %q, %v", answer, content, err, want, wantErr)
		}
	})
}
