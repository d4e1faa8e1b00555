package outward

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/job-executor/job-executor/functions/excerpt"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
)

// validatedBytes is what Keptn takes where its event validation is on (recording
// 71-validation-on).
const validatedBytes = 64 << 10

// SizeLimit is a sender that cuts the message of an event that is too large for
// Keptn, so that the event itself is never lost.
type SizeLimit struct {
	sender Sender
	// transport is what the transport takes, 0 if it does not know.
	transport func() int
	limit     atomic.Int64
	log       *slog.Logger
}

// NewSizeLimit returns a sender of events of at most limit bytes, and of less once
// Keptn has refused one as too large.
func NewSizeLimit(sender Sender, limit int, transport func() int, log *slog.Logger) *SizeLimit {
	sizeLimit := &SizeLimit{sender: sender, transport: transport, log: log}
	sizeLimit.limit.Store(int64(limit))
	return sizeLimit
}

// Send sends an event, cut if need be.
func (sizeLimit *SizeLimit) Send(ctx context.Context, outgoing event.Event) error {
	limit := int(sizeLimit.limit.Load())
	if transport := sizeLimit.transport(); transport > 0 {
		limit = min(limit, transport)
	}
	err := sizeLimit.send(ctx, outgoing, limit)
	if limit <= validatedBytes || saidOf(err) != tooLarge {
		return err
	}
	sizeLimit.log.WarnContext(ctx, "Keptn takes smaller events only, it seems that its event validation is on", "limit", validatedBytes, "error", err)
	sizeLimit.limit.Store(validatedBytes)
	return sizeLimit.send(ctx, outgoing, validatedBytes)
}

func (sizeLimit *SizeLimit) send(ctx context.Context, outgoing event.Event, limit int) error {
	fitted, err := Fit(outgoing, limit)
	if err != nil {
		return err
	}
	return sizeLimit.sender.Send(ctx, fitted)
}

const messageMember, labelsMember = "message", "labels"

// Fit returns an event of at most limit bytes, as Keptn is sent it. Its message is
// cut in the middle, with a note that says how much is missing and where all of it
// is; if that is not enough, its labels are left out, which Keptn knows already.
func Fit(outgoing event.Event, limit int) (event.Event, error) {
	content, err := keptn.EncodeEvent(outgoing)
	if err != nil || len(content) <= limit {
		return outgoing, err
	}
	var data map[string]json.RawMessage
	if err := outgoing.DataAs(&data); err != nil {
		return event.Event{}, fmt.Errorf("reading the data of event %s: %w", outgoing.ID(), err)
	}
	var message string
	if raw, ok := data[messageMember]; ok {
		if err := json.Unmarshal(raw, &message); err != nil {
			return event.Event{}, fmt.Errorf("reading the message of event %s: %w", outgoing.ID(), err)
		}
	}
	without := len(content) - len(data[messageMember])
	if labels := len(data[labelsMember]); without+len(`""`) > limit && labels > 0 {
		delete(data, labelsMember)
		without -= labels + len(`"labels":,`)
	}
	triggeredID, _ := outgoing.Extensions()[keptn.TriggeredIDExtension].(string)
	whole := fmt.Sprintf("the logs of kubectl get pods --all-namespaces --selector %s=%s", run.EventIDLabel, run.ID(triggeredID))
	shortened, err := json.Marshal(excerpt.Shorten(message, whole, limit-without))
	if err != nil {
		return event.Event{}, fmt.Errorf("encoding the message of event %s: %w", outgoing.ID(), err)
	}
	data[messageMember] = shortened
	fitted := outgoing.Clone()
	if err := fitted.SetData(event.ApplicationJSON, data); err != nil {
		return event.Event{}, fmt.Errorf("encoding event %s: %w", outgoing.ID(), err)
	}
	return fitted, nil
}
