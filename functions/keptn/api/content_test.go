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
		{"as Keptn sends it", `{"resourceURI":"job%2Fconfig.yaml","resourceContent":"aGVsbG8=","metadata":{"branch":"main"}}`, "hello", ""},
		{"first", `{"resourceContent":"aGVsbG8="}`, "hello", ""},
		{"after values of all kinds", ` { "a" : [1,"]",{"resourceContent":"eA=="}] , "b":{"c":"}"}, "d":null, "e":-1.5e3 ,"f":true,"g":"\"\\", "resourceContent" : "aGVsbG8=" }`, "hello", ""},
		{"with a name that is escaped", `{"resource\u0043ontent":"aGVsbG8="}`, "hello", ""},
		{"with a slash that is escaped", `{"resourceContent":"Pz8\/Pw=="}`, "????", ""},
		{"empty", `{"resourceContent":""}`, "", ""},
		{"with another escape", `{"resourceContent":"aGVs\nbG8="}`, "", "resourceContent is no base64"},
		{"none", `{"resourceURI":"x"}`, "", "it has no resourceContent"},
		{"cut where it could be", `{"resourceURI":"x"`, "", "it has no resourceContent\nEOF"},
		{"no text", `{"resourceContent":1}`, "", "resourceContent is no text"},
		{"no object", `["resourceContent"]`, "", "it is no JSON object"},
		{"cut in the content", `{"resourceContent":"aGVs`, "", "unexpected EOF"},
		{"cut before", `{"resourceURI":"x`, "", "reading member resourceURI: unexpected EOF"},
		{"no base64", `{"resourceContent":"????"}`, "", "illegal base64 data at input byte 0"},
		{"nothing", ``, "", "it is no JSON object\nEOF"},
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

// Whatever JSON object it is, the content is the one that encoding/json finds.
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
		if strings.Count(answer, "esource") != 1 || strings.Contains(answer, `\u`) || !json.Valid([]byte(answer)) || json.Unmarshal([]byte(answer), &members) != nil ||
			members[contentMember] == nil || json.Unmarshal(members[contentMember], &encoded) != nil || !strings.HasPrefix(string(members[contentMember]), `"`) {
			return
		}
		want, wantErr := base64.StdEncoding.DecodeString(encoded)
		if (wantErr == nil) != (err == nil) || err == nil && !bytes.Equal(content, want) {
			t.Errorf("%q: got %q, %v; want %q, %v", answer, content, err, want, wantErr)
		}
	})
}
