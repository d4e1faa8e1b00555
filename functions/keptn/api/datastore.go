package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/job-executor/job-executor/functions/keptn"
)

// controllerSource is the source of tasks' triggered events. Other triggered events are published by another
// service, such as lighthouse-service's get-sli.triggered, or sent by hand: shipyard-controller neither lists
// them nor counts their answers.
const controllerSource = "shipyard-controller"

// CheckDatastore returns an error if our token may not ask mongodb-datastore. Then triggered events of other
// services than shipyard-controller are unknown.
func (c *Client) CheckDatastore(ctx context.Context) error {
	_, err := c.stored(ctx, "job-executor", keptn.TypeOf(getSLITask, keptn.Triggered))
	return err
}

// isDenied reports whether mongodb-datastore is not accessible at all.
func isDenied(err error) bool {
	status, ok := errors.AsType[*StatusError](err)
	return ok && (status.Code == http.StatusUnauthorized || status.Code == http.StatusForbidden || status.Code == http.StatusNotFound)
}

// maxStored bounds the events of one type and sequence (the limit of a page in mongodb-datastore).
const maxStored = 100

// stored returns mongodb-datastore's events of a type and Keptn context. It stores all published events within
// milliseconds.
func (c *Client) stored(ctx context.Context, keptnContext, eventType string) ([]event.Event, error) {
	events, _, err := c.storedPage(ctx, url.Values{"keptnContext": {keptnContext}, "type": {eventType}})
	return events, err
}

// storedPage returns a page of mongodb-datastore's events, and the key of the next page; empty for none.
func (c *Client) storedPage(ctx context.Context, query url.Values) (events []event.Event, next string, err error) {
	query.Set("pageSize", strconv.Itoa(maxStored))
	var page struct {
		Events      []json.RawMessage `json:"events"`
		NextPageKey string            `json:"nextPageKey"`
	}
	if err := c.call(ctx, http.MethodGet, c.Endpoints.Datastore+"/event?"+query.Encode(), nil, &page, "events"); err != nil {
		return nil, "", err
	}
	for _, content := range page.Events[:min(len(page.Events), maxStored)] {
		if found, err := keptn.DecodeEvent(content); err == nil { // our answers can be decoded
			events = append(events, found)
		}
	}
	if next = page.NextPageKey; next == "0" {
		next = ""
	}
	return events, next, nil
}

// errNoDatastore means that KEPTN_DATASTORE_URL is empty.
var errNoDatastore = errors.New("no mongodb-datastore is configured")

// Published returns how many of our answers to a task mongodb-datastore has stored, whether
// shipyard-controller has counted them or not.
func (c *Client) Published(ctx context.Context, task keptn.Task, phase keptn.Phase) (published int, err error) {
	if c.Endpoints.Datastore == "" {
		return 0, errNoDatastore
	}
	answers, err := c.stored(ctx, task.Context, keptn.TypeOf(task.Name, phase))
	if err != nil {
		return 0, fmt.Errorf("ask mongodb-datastore about task %s: %w", task.TriggeredID, err)
	}
	for _, answer := range answers {
		if answer.Source() == c.Source && answer.Extensions()[keptn.TriggeredIDExtension] == task.TriggeredID {
			published++
		}
	}
	return published, nil
}

// countDirect counts the answers to a triggered event that shipyard-controller does not know,
// from what mongodb-datastore has stored. It returns false if the event is not stored either.
func (c *Client) countDirect(ctx context.Context, task keptn.Task) (count keptn.Count, found bool, err error) {
	if c.Endpoints.Datastore == "" {
		return keptn.Count{}, false, nil
	}
	triggered, err := c.stored(ctx, task.Context, keptn.TypeOf(task.Name, keptn.Triggered))
	if isDenied(err) {
		return keptn.Count{}, false, nil
	}
	if err != nil {
		return keptn.Count{}, false, err
	}
	for _, stored := range triggered {
		found = found || stored.ID() == task.TriggeredID && stored.Source() != controllerSource
	}
	if !found {
		return keptn.Count{}, false, nil
	}
	count.Standing, count.Archived = keptn.Current, true
	for phase, number := range map[keptn.Phase]*int{keptn.Started: &count.Started, keptn.Finished: &count.Finished} {
		if *number, err = c.Published(ctx, task, phase); err != nil {
			return keptn.Count{}, false, err
		}
	}
	if count.Finished > 0 {
		count.Standing = keptn.Completed
	}
	return count, true, nil
}

// To carry out an evaluation task, lighthouse-service triggers a get-sli task.
const (
	getSLITask     = "get-sli"
	evaluationTask = "evaluation"
)

// directTriggered returns lighthouse-service's get-sli.triggered events of the open
// evaluations. Over HTTP, Job Executor can find them only in mongodb-datastore.
func (c *Client) directTriggered(ctx context.Context) ([]event.Event, error) {
	if c.Endpoints.Datastore == "" {
		return nil, nil
	}
	evaluations, err := c.openTriggered(ctx, keptn.TypeOf(evaluationTask, keptn.Triggered), url.Values{})
	if err != nil {
		return nil, err
	}
	var events []event.Event
	asked := map[any]bool{}
	for _, evaluation := range evaluations {
		keptnContext, _ := evaluation.Extensions()[keptn.ContextExtension].(string)
		if keptnContext == "" || asked[keptnContext] {
			continue
		}
		asked[keptnContext] = true
		triggered, err := c.stored(ctx, keptnContext, keptn.TypeOf(getSLITask, keptn.Triggered))
		if isDenied(err) {
			return events, nil // CheckDatastore has logged it
		}
		if err != nil {
			return nil, err
		}
		for _, found := range triggered {
			if found.Source() != controllerSource {
				events = append(events, found)
			}
		}
	}
	return events, nil
}
