package outward

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

// The members of every event's data; all others were reported by tasks.
const (
	messageMember = "message"
	labelsMember  = "labels"
)

func isCommon(member string) bool {
	return slices.Contains([]string{"project", "stage", "service", "status", "result", messageMember, labelsMember}, member)
}

// minMessageBytes is the room that a message has before anything that was reported.
const minMessageBytes = 4 << 10

// Fit returns an event of at most limit bytes, as it is sent to Keptn. It truncates the message in
// the middle, with a note that says where all of it is. If that is not enough, it leaves out
// reported members, the largest first, and names them in the message, and at last the labels.
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
	reported := slices.DeleteFunc(slices.Sorted(maps.Keys(data)), isCommon)
	slices.SortStableFunc(reported, func(one, other string) int { return cmp.Compare(len(data[other]), len(data[one])) })
	var left []string
	for _, member := range append(reported, labelsMember) {
		wanted := min(len(data[messageMember]), minMessageBytes)
		if member == labelsMember {
			wanted = len(`""`)
		}
		if _, given := data[member]; !given || without+wanted <= limit {
			continue
		}
		left = append(left, fmt.Sprintf("%s (%d bytes)", member, len(data[member])))
		without -= len(data[member]) + len(`"":,`) + len(member)
		delete(data, member)
	}
	if len(left) > 0 {
		message = fmt.Sprintf("Left out, since Keptn accepts events of at most %d bytes: %s.\n%s", limit, strings.Join(left, ", "), message)
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
