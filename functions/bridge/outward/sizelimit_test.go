package outward

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
)

func finishedWith(message string, labels map[string]string) event.Event {
	labelled := task
	labelled.Labels = labels
	return labelled.Finished(noon, keptn.Errored(message))
}

func TestEventsFitIntoWhatKeptnTakes(t *testing.T) {
	long := func(text string, bytes int) string { return strings.Repeat(text, bytes/len(text)) }
	tests := []struct {
		name     string
		outgoing event.Event
		limit    int
		least    int // of the bytes are used
		has, not []string
	}{
		{"what is small enough stays as it is", finishedWith("hello", nil), 1 << 10, 0, []string{`"hello"`}, []string{"left out"}},
		{"text", finishedWith("begin"+long("x", 1<<20)+"end", nil), 64 << 10, 64<<10 - 4, []string{`"begin`, `end"`, "bytes are left out here; all of it: the logs of kubectl get pods --all-namespaces --selector keptn.sh/event-id=1"}, nil},
		{"what has to be escaped needs more room", finishedWith("begin"+long("\n\"\x01", 1<<20)+"end", nil), 64 << 10, 64<<10 - 16, []string{`"begin`, `end"`, "left out"}, nil},
		{"no character is cut in two", finishedWith(long("äöü€", 1<<20), nil), 64 << 10, 64<<10 - 16, []string{"left out"}, nil},
		{"labels go before the event does", finishedWith("hello", map[string]string{"large": long("l", 70<<10)}), 64 << 10, 0, []string{`"hello"`}, []string{"large"}},
		{"a little too much", finishedWith(long("x", 64<<10), nil), 64 << 10, 60 << 10, []string{"left out"}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fitted, err := Fit(test.outgoing, test.limit)
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
			want, got := test.outgoing, fitted
			_, _ = want.SetData(event.ApplicationJSON, nil), got.SetData(event.ApplicationJSON, nil)
			if difference := cmp.Diff(want.String(), got.String()); difference != "" {
				t.Errorf("attributes (-want +got):\n%s", difference)
			}
		})
	}
}

// picky takes events of some size and refuses others.
type picky struct {
	limit   int
	refusal error
	sizes   []int
}

func (picky *picky) Send(_ context.Context, outgoing event.Event) error {
	content, err := keptn.EncodeEvent(outgoing)
	if err != nil {
		return err
	}
	if len(content) > picky.limit {
		return fmt.Errorf("sending: %w", picky.refusal)
	}
	picky.sizes = append(picky.sizes, len(content))
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
		{"no refusal", picky{limit: mebibyte}, 0, 100 << 10, false, []int{100, 100}},
		{"configured", picky{limit: mebibyte}, 0, 2 * mebibyte, false, []int{976, 976}},
		{"event validation is on", picky{limit: 64 << 10, refusal: refused(http.StatusBadRequest, `parsing body body from "" failed, because http: request body too large`)}, 0, mebibyte, false, []int{63, 63}},
		{"a proxy refuses", picky{limit: 64 << 10, refusal: refused(http.StatusRequestEntityTooLarge, "<html>")}, 0, mebibyte, false, []int{63, 63}},
		{"Keptn's NATS refuses", picky{limit: 64 << 10, refusal: refused(http.StatusInternalServerError, "could not publish message to NATS: nats: maximum payload exceeded")}, 0, mebibyte, false, []int{63, 63}},
		{"NATS refuses", picky{limit: 64 << 10, refusal: nats.ErrMaxPayload}, 0, mebibyte, false, []int{63, 63}},
		{"NATS says so before", picky{limit: 300 << 10}, 300 << 10, mebibyte, false, []int{299, 299}},
		{"another refusal", picky{limit: 64 << 10, refusal: refused(http.StatusBadRequest, "result field is not set")}, 0, mebibyte, true, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			sizeLimit := NewSizeLimit(&test.keptn, 1000000, func() int { return test.transport }, discard)
			for range 2 {
				if err := sizeLimit.Send(t.Context(), finishedWith(strings.Repeat("x", test.size), nil)); (err != nil) != test.wantError || err != nil && !errors.Is(err, test.keptn.refusal) {
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
