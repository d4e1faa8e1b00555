package jobconfig

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Schema returns the JSON Schema of job/config.yaml, generated from the parser's table. The members
// errorMessage and doNotSuggest are extensions of yaml-language-server, which editors use.
func Schema() ([]byte, error) {
	whole := schema{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://job-executor.github.io/job-config.schema.json",
		"title": "job/config.yaml", "description": "The Jobs that Job Executor runs for Keptn's events.",
		"type": "object", "required": []string{"apiVersion"},
		"properties": propertiesOf(fileFields()), "patternProperties": schema{"^x-": true}, "additionalProperties": false,
		"$defs": schema{"action": action().schema(), "event": event().schema(), "task": task().schema(), "env": env().schema()},
	}
	var content bytes.Buffer
	encoder := json.NewEncoder(&content)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(whole); err != nil {
		return nil, fmt.Errorf("encode the schema: %w", err)
	}
	return content.Bytes(), nil
}
