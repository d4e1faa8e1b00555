package watcher

import (
	"fmt"
	"strings"

	"github.com/job-executor/job-executor/functions/excerpt"
	"github.com/job-executor/job-executor/functions/keptn"
)

const (
	// maxMessageBytes is about what Keptn accepts, as JSON. The bridge truncates further where
	// Keptn accepts less.
	maxMessageBytes = 900 << 10
	// maxSentenceBytes bounds the text about one task before the logs.
	maxSentenceBytes = 4 << 10
	// maxSentencesBytes bounds the text about all tasks.
	maxSentencesBytes = 64 << 10
)

// sentence says how a task ended, in the words of the job-executor-service.
func (r report) sentence() string {
	switch {
	case r.failure != "":
		return fmt.Sprintf("Task '%s' failed: %s\n", r.task, r.failure)
	case r.result.Result == keptn.ResultWarning:
		return fmt.Sprintf("Task '%s' finished with a warning!\n", r.task)
	default:
		return fmt.Sprintf("Task '%s' finished successfully!\n", r.task)
	}
}

// sentences says how each task ended, with its own message, and then the notes. Failures come first: users look
// for them, and they are truncated last.
func sentences(reports []report, notes []string) string {
	var text strings.Builder
	for _, failed := range []bool{true, false} {
		for _, r := range reports {
			if (r.failure != "") == failed {
				text.WriteString(r.sentence())
			}
		}
	}
	for _, r := range reports {
		lines := r.notes
		if r.result.Message != "" {
			lines = append([]string{r.result.Message}, lines...)
		}
		for _, line := range lines {
			if len(reports) > 1 {
				fmt.Fprintf(&text, "Task '%s': ", r.task)
			}
			fmt.Fprintln(&text, line)
		}
	}
	for _, note := range notes {
		fmt.Fprintln(&text, note)
	}
	return excerpt.Shorten(text.String(), "kubectl get jobs", maxSentencesBytes)
}

// message returns the finished event's message: the sentences, then the logs, each with its share of the size.
func message(reports []report, notes []string) string {
	var logs strings.Builder
	text := sentences(reports, notes)
	for _, r := range reports {
		if len(reports) > 1 && len(r.logs) > 0 {
			fmt.Fprintf(&logs, "Task '%s':\n", r.task)
		}
		for _, log := range r.logs {
			fmt.Fprintf(&logs, "%s:\n%s\n", log.title, log.text)
		}
	}
	if logs.Len() == 0 {
		return text
	}
	return text + "\nLogs:\n" + logs.String()
}
