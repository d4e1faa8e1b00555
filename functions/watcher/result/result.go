package result

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
)

// Result is what a task says of itself: it writes to /dev/termination-log, of which
// Kubernetes keeps 4 KiB, an object of JSON that becomes a part of the finished event, or
// a line of text for its message.
type Result struct {
	Status keptn.Status
	Result keptn.Result
	// Message is for a person.
	Message string
	Labels  map[string]string
	// Data are all other members.
	Data map[string]any
}

// Of is what the task's container in one of the pods said last.
func Of(pods []corev1.Pod) (result Result) {
	for _, pod := range pods {
		for _, status := range pod.Status.ContainerStatuses {
			terminated := status.State.Terminated
			if terminated == nil || status.Name != run.TaskContainer || terminated.Message == "" {
				continue
			}
			if terminated.ExitCode == 0 || Is(terminated.Message) {
				result = parse(terminated.Message) // a text is told as the reason of its failure
			}
		}
	}
	return result
}

// Is says whether a termination message is an object of JSON.
func Is(message string) bool {
	return strings.HasPrefix(strings.TrimSpace(message), "{") && json.Valid([]byte(message))
}

func parse(text string) Result {
	if !Is(text) {
		return Result{Message: strings.TrimSpace(text)}
	}
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.UseNumber()
	parsed := Result{}
	if err := decoder.Decode(&parsed.Data); err != nil {
		return Result{Message: strings.TrimSpace(text)} // a number that none can be
	}
	take := func(name string) string {
		value, isText := parsed.Data[name].(string)
		if _, given := parsed.Data[name]; given && !isText {
			parsed.complain("%s must be text, not %v", name, parsed.Data[name])
		}
		delete(parsed.Data, name)
		return value
	}
	parsed.Status, parsed.Result = keptn.Status(take("status")), keptn.Result(take("result"))
	told := take("message")
	switch parsed.Status {
	case "", keptn.StatusSucceeded, keptn.StatusErrored:
	default:
		parsed.complain("status %q must be %s or %s", parsed.Status, keptn.StatusSucceeded, keptn.StatusErrored)
		parsed.Status = keptn.StatusErrored
	}
	switch parsed.Result {
	case "", keptn.ResultPass, keptn.ResultWarning, keptn.ResultFail:
	default:
		parsed.complain("result %q must be %s, %s or %s", parsed.Result, keptn.ResultPass, keptn.ResultWarning, keptn.ResultFail)
		parsed.Result = keptn.ResultFail
	}
	labels, _ := parsed.Data["labels"].(map[string]any)
	delete(parsed.Data, "labels")
	for name, value := range labels {
		if parsed.Labels == nil {
			parsed.Labels = map[string]string{}
		}
		parsed.Labels[name] = fmt.Sprint(value)
	}
	parsed.Message = strings.TrimSpace(told + parsed.Message)
	return parsed
}

// complain adds to the message what is wrong with the result.
func (result *Result) complain(format string, arguments ...any) {
	result.Message += "\nwhat it wrote to /dev/termination-log is wrong: " + fmt.Sprintf(format, arguments...)
}

// Hider hides what Keptn must not be told, in a text or a value of JSON.
type Hider interface {
	Text(text string) string
	Value(value any) any
}

// Hide hides it in all that the task says.
func (result *Result) Hide(hider Hider) {
	result.Message = hider.Text(result.Message)
	for name, value := range result.Labels {
		result.Labels[name] = hider.Text(value)
	}
	for name, value := range result.Data {
		result.Data[name] = hider.Value(value)
	}
}

// Merge adds to an outcome what a task says of itself: the worst result of all tasks wins.
func (result Result) Merge(outcome *keptn.Outcome, taskName string) {
	if result.Status == keptn.StatusErrored {
		outcome.Status = keptn.StatusErrored
	}
	if worse(result.Result, outcome.Result) {
		outcome.Result = result.Result
	}
	if outcome.Status == keptn.StatusErrored {
		outcome.Result = keptn.ResultFail
	}
	if outcome.Labels == nil {
		outcome.Labels = map[string]string{}
	}
	maps.Copy(outcome.Labels, result.Labels)
	if outcome.Data == nil {
		outcome.Data = map[string]any{}
	}
	for name, value := range result.Data {
		before, isObject := outcome.Data[name].(map[string]any)
		more, isObjectToo := value.(map[string]any)
		if isObject && isObjectToo {
			before = maps.Clone(before)
			maps.Copy(before, more)
			value = before
		}
		outcome.Data[name] = value
	}
	if own, ok := outcome.Data[taskName].(map[string]any); ok {
		for name, value := range outcome.Properties {
			if _, given := own[name]; !given {
				own[name] = value
			}
		}
		outcome.Properties = own
		delete(outcome.Data, taskName)
	}
}

func worse(one, other keptn.Result) bool {
	order := map[keptn.Result]int{keptn.ResultPass: 1, keptn.ResultWarning: 2, keptn.ResultFail: 3}
	return order[one] > order[other]
}
