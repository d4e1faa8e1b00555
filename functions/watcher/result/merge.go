package result

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/job-executor/job-executor/functions/keptn"
)

// Merge adds a task's report to the outcome of its run. The worst status and result win. Objects are merged,
// and lists of the same member are appended. It returns the members of other tasks that the report replaces.
func (r Result) Merge(outcome *keptn.Outcome) (replaced []string) {
	if r.Status == keptn.StatusErrored || len(r.Mistakes) > 0 {
		outcome.Status = keptn.StatusErrored
	}
	if worse(r.Result, outcome.Result) {
		outcome.Result = r.Result
	}
	if outcome.Status == keptn.StatusErrored {
		outcome.Result = keptn.ResultFail
	}
	for name, value := range r.Labels {
		if before, known := outcome.Labels[name]; known && before != value {
			replaced = append(replaced, labelsMember+"."+name)
		}
	}
	if len(r.Labels) > 0 && outcome.Labels == nil {
		outcome.Labels = map[string]string{}
	}
	maps.Copy(outcome.Labels, r.Labels)
	if len(r.Data) > 0 && outcome.Data == nil {
		outcome.Data = map[string]any{}
	}
	replaced = append(replaced, merge("", outcome.Data, r.Data)...)
	slices.Sort(replaced)
	return replaced
}

// merge adds members to an object and returns the paths of those that it replaces.
func merge(path string, into, from map[string]any) (replaced []string) {
	for name, value := range from {
		member := strings.TrimPrefix(path+"."+name, ".")
		before, known := into[name]
		if !known {
			into[name] = value
			continue
		}
		switch value := value.(type) {
		case map[string]any:
			if object, ok := before.(map[string]any); ok {
				merged := maps.Clone(object)
				replaced = append(replaced, merge(member, merged, value)...)
				into[name] = merged
				continue
			}
		case []any:
			if list, ok := before.([]any); ok {
				into[name] = append(slices.Clip(list), value...)
				continue
			}
		}
		if !reflect.DeepEqual(before, value) {
			replaced = append(replaced, member)
		}
		into[name] = value
	}
	return replaced
}

func worse(one, other keptn.Result) bool {
	order := map[keptn.Result]int{keptn.ResultPass: 1, keptn.ResultWarning: 2, keptn.ResultFail: 3}
	return order[one] > order[other]
}

// Redactor redacts Secrets, as redact.Redactor does.
type Redactor interface {
	Text(text string) string
	Value(path string, value any, changed func(path string, keys []string)) any
}

// Redact redacts all texts of a report for people and Keptn. It names changed members in the message, because
// others rely on their values.
func (r *Result) Redact(redactor Redactor) {
	var changed []string
	note := func(path string, keys []string) {
		changed = append(changed, fmt.Sprintf("%s contained the value of %s, which was redacted.", path, strings.Join(keys, " and ")))
	}
	r.Message = redactor.Text(r.Message)
	for index, mistake := range r.Mistakes {
		r.Mistakes[index] = redactor.Text(mistake)
	}
	labels := map[string]any{}
	for name, value := range r.Labels {
		labels[name] = value
	}
	if redacted, ok := redactor.Value(labelsMember, labels, note).(map[string]any); ok && len(r.Labels) > 0 {
		r.Labels = map[string]string{}
		for name, value := range redacted {
			r.Labels[name], _ = value.(string)
		}
	}
	if data, ok := redactor.Value("", r.Data, note).(map[string]any); ok && r.Data != nil {
		r.Data = data
	}
	const most = 20
	if more := len(changed) - most; more > 0 {
		changed = append(changed[:most], fmt.Sprintf("%d more members contained values of Secrets.", more))
	}
	r.Message = strings.TrimSpace(r.Message + "\n" + strings.Join(changed, "\n"))
}
