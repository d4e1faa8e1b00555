package result

import (
	"encoding/json"
	"testing"
)

func FuzzParse(f *testing.F) {
	f.Add(`{"result": "warning", "labels": {"a": 1}, "get-sli": {"b": [1, {"c": null}]}}`)
	f.Add("a text")
	f.Fuzz(func(t *testing.T, text string) {
		parsed := parse(text)
		if _, err := json.Marshal(parsed.Data); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}
