package report

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/job-executor/job-executor/functions/excerpt"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
)

// validatedBytes is the largest event that Keptn accepts while its event validation is on (recording
// 71-validation-on).
const validatedBytes = 64 << 10

// SizeLimit is the largest event that Keptn accepts, in bytes. Safe for concurrent use.
type SizeLimit struct {
	// transport returns the limit of the transport, 0 if it is unknown.
	transport func() int
	bytes     atomic.Int64
	log       *slog.Logger
}

// NewSizeLimit returns a limit in bytes. It becomes lower if the transport's is, or after Keptn has refused an
// event as too large.
func NewSizeLimit(bytes int, transport func() int, log *slog.Logger) *SizeLimit {
	limit := &SizeLimit{transport: transport, log: log}
	limit.bytes.Store(int64(bytes))
	return limit
}

func (l *SizeLimit) current() int {
	limit := int(l.bytes.Load())
	if transport := l.transport(); transport > 0 {
		limit = min(limit, transport)
	}
	return limit
}

// lower lowers the limit after an error of sending an event of this limit. It returns false if another try
// is useless.
func (l *SizeLimit) lower(ctx context.Context, limit int, err error) bool {
	if limit <= validatedBytes || verdictOf(err) != tooLarge {
		return false
	}
	l.log.WarnContext(ctx, "Keptn accepts only smaller events; its event validation seems to be on", "limit", validatedBytes, "error", err)
	l.bytes.Store(validatedBytes)
	return true
}

// minMessageBytes is the part of the message with precedence over reported data.
const minMessageBytes = 4 << 10

// Fit reduces a task and its outcome, whose event has size bytes, to at most limit bytes. It truncates the
// message in the middle, with a note about the full text. If that is not enough, it leaves out reported data,
// the largest member first, and finally the labels. The message names what is left out.
func Fit(task keptn.Task, outcome keptn.Outcome, size, limit int) (keptn.Task, keptn.Outcome) {
	outcome.Data = maps.Clone(outcome.Data)
	messageBytes := encodedSize(outcome.Message)
	rest := size - messageBytes
	if outcome.Message == "" && outcome.Status == "" { // the event has no message yet
		rest = size + len(`"message":,`)
	}
	var left []string
	leaveOut := func(member string, value any) {
		bytes := encodedSize(value)
		left = append(left, fmt.Sprintf("%s (%d bytes)", member, bytes))
		rest -= bytes + len(`"":,`) + len(member)
	}
	sizes := map[string]int{}
	for member, value := range outcome.Data {
		sizes[member] = encodedSize(value)
	}
	members := slices.SortedFunc(maps.Keys(sizes), func(one, other string) int {
		return cmp.Or(cmp.Compare(sizes[other], sizes[one]), strings.Compare(one, other))
	})
	for _, member := range members {
		if rest+min(messageBytes, minMessageBytes) > limit {
			leaveOut(member, outcome.Data[member])
			delete(outcome.Data, member)
		}
	}
	if labels := task.AllLabels(outcome); rest+len(`""`) > limit && len(labels) > 0 {
		leaveOut("labels", labels)
		task.Labels, outcome.Labels = nil, nil
	}
	if len(left) > 0 {
		outcome.Message = fmt.Sprintf("Keptn accepts events of at most %d bytes. Left out: %s.\n%s", limit, strings.Join(left, ", "), outcome.Message)
	}
	logs := fmt.Sprintf("the logs of kubectl get pods --all-namespaces --selector %s=%s", run.EventIDLabel, run.ID(task.TriggeredID))
	outcome.Message = excerpt.Shorten(outcome.Message, logs, limit-rest)
	return task, outcome
}

// encodedSize returns the size of a value as JSON, in bytes.
func encodedSize(value any) int {
	content, _ := json.Marshal(value) // it was decoded from JSON
	return len(content)
}
