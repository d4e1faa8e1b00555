package executor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/keptn"
)

// maxDepth bounds the nesting of an event. MongoDB stores no deeper documents, and JSONPaths need memory for
// each level.
const maxDepth = 100

// depthOf returns the nesting depth of JSON.
func depthOf(content []byte) (deepest int) {
	depth, inText := 0, false
	for index := 0; index < len(content); index++ {
		switch char := content[index]; {
		case inText && char == '\\':
			index++
		case char == '"':
			inText = !inText
		case inText:
		case char == '{' || char == '[':
			depth++
			deepest = max(deepest, depth)
		case char == '}' || char == ']':
			depth--
		}
	}
	return deepest
}

// envelopeOf returns the event as expressions in job/config.yaml see it.
func envelopeOf(triggered event.Event) (jobconfig.Envelope, error) {
	if depth := depthOf(triggered.Data()); depth > maxDepth {
		return nil, fmt.Errorf("the data of event %s is nested deeper than %d levels", triggered.ID(), maxDepth)
	}
	var data any
	decoder := json.NewDecoder(bytes.NewReader(triggered.Data()))
	decoder.UseNumber()
	if err := decoder.Decode(&data); err != nil {
		return nil, fmt.Errorf("decode the data of event %s: %w", triggered.ID(), err)
	}
	envelope := jobconfig.Envelope{
		"id":          triggered.ID(),
		"type":        triggered.Type(),
		"source":      triggered.Source(),
		"time":        triggered.Time().Format(time.RFC3339Nano),
		"specversion": triggered.SpecVersion(),
		"data":        data,
	}
	for _, name := range []string{keptn.ContextExtension, keptn.GitCommitIDExtension} {
		// Events of older Keptns have no commit.
		envelope[name], _ = triggered.Extensions()[name].(string)
	}
	return envelope, nil
}
