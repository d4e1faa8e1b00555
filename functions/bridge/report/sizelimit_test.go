package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/keptn/api"
	"github.com/job-executor/job-executor/functions/protocol"
)

func finishedWith(message string, labels map[string]string) protocol.Answer {
	labelled := task
	labelled.Labels = labels
	return ends(labelled, keptn.Errored(message))
}

func TestEventsFitIntoWhatKeptnTakes(t *testing.T) {
	long := func(text string, bytes int) string { return strings.Repeat(text, bytes/len(text)) }
	labelled := task
	labelled.Labels = map[string]string{"a": "b"}
	tests := []struct {
		name     string
		answer   protocol.Answer
		limit    int
		least    int // of the bytes are used
		has, not []string
	}{
		{
			name:   "a small event is unchanged",
			answer: finishedWith("hello", nil),
			limit:  1 << 10,
			has:    []string{`"hello"`},
			not:    []string{"left out"},
		},
		{
			name:   "text",
			answer: finishedWith("begin"+long("x", 1<<20)+"end", nil),
			limit:  64 << 10,
			least:  64<<10 - 4,
			has: []string{
				`"begin`,
				`end"`,
				"bytes are left out here; all of it: the logs of kubectl get pods --all-namespaces --selector keptn.sh/event-id=1",
			},
		},
		{
			name:   "escaped characters count",
			answer: finishedWith("begin"+long("\n\"\x01", 1<<20)+"end", nil),
			limit:  64 << 10,
			least:  64<<10 - 16,
			has:    []string{`"begin`, `end"`, "left out"},
		},
		{
			name:   "characters stay complete",
			answer: finishedWith(long("äöü€", 1<<20), nil),
			limit:  64 << 10,
			least:  64<<10 - 16,
			has:    []string{"left out"},
		},
		{
			name:   "labels are removed first",
			answer: finishedWith("hello", map[string]string{"large": long("l", 70<<10)}),
			limit:  64 << 10,
			has:    []string{`"Keptn accepts events of at most 65536 bytes. Left out: labels (71692 bytes).\nhello"`},
			not:    []string{"large"},
		},
		{
			name: "the largest reported data is removed first",
			answer: ends(labelled, keptn.Outcome{
				Status: keptn.StatusSucceeded, Result: keptn.ResultPass, Message: long("x", 8<<10),
				Data: map[string]any{"small": "s", "large": long("l", 40<<10), "larger": long("l", 50<<10), "get-sli": long("l", 20<<10)},
			}),
			limit: 64 << 10,
			least: 20 << 10,
			has: []string{`"Keptn accepts events of at most 65536 bytes. Left out: larger (51202 bytes), large (40962 ` +
				`bytes).\nx`, `"small":"s"`, `"get-sli"`, `"a":"b"`},
			not: []string{`"large":`, `"larger":`},
		},
		{
			name: "labels of a started event are removed", answer: begins(keptn.Task{
				TriggeredID: "1", Name: "test", Context: "c", Project: "p", Stage: "s", Service: "v", Labels: map[string]string{"large": long("l", 70<<10)},
			}),
			limit: 64 << 10, has: []string{`"Keptn accepts events of at most 65536 bytes. Left out: labels (71692 bytes).\n"`}, not: []string{"large"},
		},
		{name: "a little too much", answer: finishedWith(long("x", 64<<10), nil), limit: 64 << 10, least: 60 << 10, has: []string{"left out"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			reporter := newTestReporter(&control{})
			fitted, err := reporter.event(test.answer, 0, "", noon, test.limit)
			if err != nil {
				t.Fatal(err)
			}
			content, err := keptn.EncodeEvent(fitted)
			if err != nil {
				t.Fatal(err)
			}
			if len(content) > test.limit || len(content) < test.least || !json.Valid(content) {
				t.Errorf("it has %d bytes, not %d to %d", len(content), test.least, test.limit)
			}
			for _, part := range test.has {
				if !strings.Contains(string(content), part) {
					t.Errorf("%q is missing", part)
				}
			}
			for _, part := range test.not {
				if strings.Contains(string(content), part) {
					t.Errorf("%q is there", part)
				}
			}
			want, err := reporter.event(test.answer, 0, "", noon, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			got := fitted
			_, _ = want.SetData(event.ApplicationJSON, nil), got.SetData(event.ApplicationJSON, nil)
			if difference := cmp.Diff(want.String(), got.String()); difference != "" {
				t.Errorf("attributes (-want +got):\n%s", difference)
			}
		})
	}
}

// picky refuses events above its limit, and records the size of every event.
type picky struct {
	limit   int
	refusal error
	sizes   []int
}

func (p *picky) Send(_ context.Context, outgoing event.Event) error {
	content, err := keptn.EncodeEvent(outgoing)
	if err != nil {
		return err
	}
	if len(content) > p.limit {
		return fmt.Errorf("sending: %w", p.refusal)
	}
	p.sizes = append(p.sizes, len(content))
	return nil
}

func TestLimitIsLearntFromARefusal(t *testing.T) {
	refused := func(code int, message string) error { return &api.StatusError{Code: code, Message: message} }
	const mebibyte = 1 << 20
	tests := []struct {
		name      string
		keptn     picky
		transport int
		size      int
		wantError bool
		want      []int // the sizes of two events, rounded down to KiB
	}{
		{name: "no refusal", keptn: picky{limit: mebibyte}, size: 100 << 10, want: []int{100, 100}},
		{name: "configured", keptn: picky{limit: mebibyte}, size: 2 * mebibyte, want: []int{976, 976}},
		{
			name: "event validation is on",
			keptn: picky{
				limit:   64 << 10,
				refusal: refused(http.StatusBadRequest, `parsing body body from "" failed, because http: request body too large`),
			},
			size: mebibyte,
			want: []int{63, 63},
		},
		{
			name:  "a proxy refuses",
			keptn: picky{limit: 64 << 10, refusal: refused(http.StatusRequestEntityTooLarge, "<html>")},
			size:  mebibyte,
			want:  []int{63, 63},
		},
		{
			name: "Keptn's NATS refuses",
			keptn: picky{
				limit:   64 << 10,
				refusal: refused(http.StatusInternalServerError, "could not publish message to NATS: nats: maximum payload exceeded"),
			},
			size: mebibyte,
			want: []int{63, 63},
		},
		{name: "NATS refuses", keptn: picky{limit: 64 << 10, refusal: nats.ErrMaxPayload}, size: mebibyte, want: []int{63, 63}},
		{name: "NATS announces a limit", keptn: picky{limit: 300 << 10}, transport: 300 << 10, size: mebibyte, want: []int{299, 299}},
		{
			name:      "another refusal",
			keptn:     picky{limit: 64 << 10, refusal: refused(http.StatusBadRequest, "result field is not set")},
			size:      mebibyte,
			wantError: true,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			reporter := newTestReporter(&control{})
			reporter.Sender, reporter.Limit = &test.keptn, NewSizeLimit(1000000, func() int { return test.transport }, discard)
			for range 2 {
				err := reporter.sendFitting(t.Context(), finishedWith(strings.Repeat("x", test.size), nil), 0, "", noon)
				if (err != nil) != test.wantError || err != nil && !errors.Is(err, test.keptn.refusal) {
					t.Fatal(err)
				}
			}
			var sizes []int
			for _, size := range test.keptn.sizes {
				sizes = append(sizes, size>>10)
			}
			if difference := cmp.Diff(test.want, sizes); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}
