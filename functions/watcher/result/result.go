package result

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/job-executor/job-executor/functions/keptn"
)

// Result is what a task reports about itself in /dev/termination-log: an object of JSON that
// becomes part of the finished event, or a line of text for its message.
type Result struct {
	Status keptn.Status
	Result keptn.Result
	// Message is for a person.
	Message string
	Labels  map[string]string
	// Data are all other members.
	Data map[string]any
	// Mistakes say why the report cannot be used; then the task is errored.
	Mistakes []string
}

// Of returns the report of a task, from the pod that decides its Job; the pod may be nil.
func Of(pod *corev1.Pod) Result {
	if pod == nil {
		return Result{}
	}
	terminated := Terminated(pod)
	if terminated == nil || terminated.Message == "" {
		return Result{}
	}
	if most := limit(pod); len(terminated.Message) >= most {
		return Result{Mistakes: []string{fmt.Sprintf(
			"it has %d bytes or more, so Kubernetes may have truncated it; report less than that, for example only the failed checks", most)}}
	}
	parsed := Parse(terminated.Message)
	if terminated.ExitCode != 0 && !IsObject(terminated.Message) {
		parsed.Message = "" // the sentence on the failure has it
	}
	return parsed
}

// IsObject reports whether a termination message is meant as an object of JSON, well-formed or
// not, rather than as text.
func IsObject(message string) bool {
	text := strings.TrimSpace(trimBOM(message))
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "{") {
			return true
		}
	}
	list, isList := strings.CutPrefix(text, "[")
	return isList && strings.ContainsAny(firstOf(list), `{"]`)
}

func firstOf(text string) string {
	text = strings.TrimSpace(text)
	return text[:min(len(text), 1)]
}

func trimBOM(message string) string { return strings.TrimPrefix(message, "\ufeff") }

// The members that Keptn and this package know.
const (
	statusMember  = "status"
	resultMember  = "result"
	messageMember = "message"
	labelsMember  = "labels"
)

// Parse reads a termination message.
func Parse(message string) Result {
	if !IsObject(message) {
		return Result{Message: strings.TrimSpace(message)}
	}
	data, mistakes := decode(trimBOM(message))
	if len(mistakes) > 0 {
		return Result{Mistakes: mistakes}
	}
	parsed := Result{Data: data}
	parsed.Status = keptn.Status(parsed.text(statusMember))
	parsed.Result = keptn.Result(parsed.text(resultMember))
	parsed.Message = strings.TrimSpace(parsed.text(messageMember))
	parsed.Labels = parsed.labels()
	switch parsed.Status {
	case "", keptn.StatusSucceeded, keptn.StatusErrored:
	default:
		parsed.mistake("status %q must be %s or %s", parsed.Status, keptn.StatusSucceeded, keptn.StatusErrored)
	}
	switch parsed.Result {
	case "", keptn.ResultPass, keptn.ResultWarning, keptn.ResultFail:
	default:
		parsed.mistake("result %q must be %s, %s or %s", parsed.Result, keptn.ResultPass, keptn.ResultWarning, keptn.ResultFail)
	}
	for _, name := range sortedKeys(data) {
		for _, known := range []string{statusMember, resultMember, messageMember, labelsMember} {
			if strings.EqualFold(name, known) {
				parsed.mistake("unknown member %s; did you mean %s?", name, known)
			}
		}
	}
	return parsed
}

func (r *Result) mistake(format string, arguments ...any) {
	r.Mistakes = append(r.Mistakes, fmt.Sprintf(format, arguments...))
}

// text removes a member from the data and returns it; null is no text.
func (r *Result) text(name string) string {
	value, given := r.Data[name]
	delete(r.Data, name)
	text, isText := value.(string)
	if given && !isText && value != nil {
		r.mistake("%s must be text, not %s", name, encoded(value))
	}
	return text
}

// labels removes the labels from the data and returns them. Numbers, lists and objects are
// labels as JSON, as in Keptn only text can be one; null is no label.
func (r *Result) labels() map[string]string {
	value, given := r.Data[labelsMember]
	delete(r.Data, labelsMember)
	members, isObject := value.(map[string]any)
	if given && !isObject && value != nil {
		r.mistake("labels must be an object such as {\"report\": \"http://…\"}, not %s", encoded(value))
	}
	var labels map[string]string
	for name, value := range members {
		if value == nil {
			continue
		}
		if labels == nil {
			labels = map[string]string{}
		}
		text, isText := value.(string)
		if !isText {
			text = encoded(value)
		}
		labels[name] = text
	}
	return labels
}
