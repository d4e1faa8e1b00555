package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/job-executor/job-executor/functions/keptn"
)

// listing counts what a listing of events leaves out.
type listing struct {
	// undecodable is the number of invalid CloudEvents, and beyond that of events after the size limit.
	undecodable, beyond int
	// first is the error of the first undecodable event.
	first error
}

// openTriggered decodes a listing event by event, so that neither its size nor a single event hides the others.
// Everything must be in one page, because later pages repeat the first one's items (recording 47-paging).
func (c *Client) openTriggered(ctx context.Context, eventType string, query url.Values) ([]event.Event, error) {
	query.Set("pageSize", strconv.Itoa(pageSize))
	address := c.Endpoints.ControlPlane + "/event/triggered/" + url.PathEscape(eventType) + "?" + query.Encode()
	response, err := c.do(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	events, left, err := readEvents(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read Keptn's response to GET %s: %w", response.Request.URL.Path, err)
	}
	c.logLeft(ctx, eventType, left)
	return events, nil
}

// logLeft logs what a listing left out, whenever that changes.
func (c *Client) logLeft(ctx context.Context, eventType string, left listing) {
	counts := [2]int{left.undecodable, left.beyond}
	if before, _ := c.left.Swap(eventType, counts); c.Logger == nil || before == counts || before == nil && counts == [2]int{} {
		return
	}
	c.Logger.WarnContext(ctx, "open events left out of a listing", "type", eventType, "undecodable", left.undecodable, "beyond limit", left.beyond, "error", left.first)
}

// readEvents reads {"events": [...], "totalCount": n}, and stops at maxAnswerBytes.
func readEvents(body io.Reader) (events []event.Event, left listing, err error) {
	decoder := json.NewDecoder(body)
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, left, errors.Join(ErrForeign, err)
	}
	found, total := false, 0
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, left, fmt.Errorf("%w: %w", ErrForeign, err)
		}
		switch name {
		case "events":
			found = true
			var isCut bool
			if events, isCut, err = readList(decoder, &left); err != nil {
				return nil, left, err
			} else if isCut {
				left.beyond++ // at least one; the total follows the list
				return events, left, nil
			}
		case "totalCount":
			if err := decoder.Decode(&total); err != nil {
				return nil, left, fmt.Errorf("%w: %w", ErrForeign, err)
			}
		default:
			var other json.RawMessage
			if err := decoder.Decode(&other); err != nil {
				return nil, left, fmt.Errorf("%w: %w", ErrForeign, err)
			}
		}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, left, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if !found {
		return nil, left, fmt.Errorf("%w: no events", ErrForeign)
	}
	left.beyond = max(0, total-len(events)-left.undecodable)
	return events, left, nil
}

// readList decodes events up to maxAnswerBytes; null is an empty list.
func readList(decoder *json.Decoder, left *listing) (events []event.Event, isCut bool, err error) {
	token, err := decoder.Token()
	if err == nil && token == nil {
		return nil, false, nil
	}
	if err != nil || token != json.Delim('[') {
		return nil, false, errors.Join(fmt.Errorf("%w: events is not a list", ErrForeign), err)
	}
	for decoder.More() {
		var content json.RawMessage
		if err := decoder.Decode(&content); err != nil {
			if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
				return events, true, nil
			}
			return nil, false, fmt.Errorf("%w: %w", ErrForeign, err)
		}
		listed, err := keptn.DecodeEvent(content)
		if err != nil {
			if left.undecodable++; left.first == nil {
				left.first = err
			}
			continue
		}
		events = append(events, listed)
	}
	if _, err := decoder.Token(); err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return events, true, nil
		}
		return nil, false, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return events, false, nil
}
