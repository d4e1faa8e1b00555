package jobconfig

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// synonyms are names of other formats, such as Kubernetes', GitHub's or GitLab's, for keys, in lower case. The
// first known one applies.
var synonyms = map[string][]string{
	"on": {"event"}, "trigger": {"event"}, "triggers": {"events"}, "when": {"event"}, "if": {"jsonpath"}, "type": {"name"}, "needs": {"tasks"},
	"steps": {"tasks"}, "jobs": {"tasks"}, "stages": {"tasks"}, "task": {"tasks"}, "containers": {"tasks"}, "action": {"actions"},
	"command": {"cmd"}, "entrypoint": {"cmd"}, "run": {"cmd"}, "script": {"cmd"}, "arguments": {"args"},
	"workingdirectory": {"workingDir"}, "workdir": {"workingDir"}, "serviceaccountname": {"serviceAccount"}, "pullpolicy": {"imagePullPolicy"},
	"timeout": {"maxPollDuration"}, "activedeadlineseconds": {"maxPollDuration"}, "timeoutseconds": {"maxPollDuration"}, "ttl": {"ttlSecondsAfterFinished"},
	"volumemounts": {"volumes"}, "environment": {"env"}, "variables": {"env"}, "secret": {"secretKeyRef"}, "configmap": {"configMapKeyRef"},
	"retry": {"retries"}, "backofflimit": {"retries"}, "pullsecrets": {"imagePullSecrets"}, "path": {"property"}, "equals": {"match"}, "value": {"match"},
}

// actionKeys are keys of an action that authors often give a task.
var actionKeys = map[string]bool{"parallel": true, "silent": true, "events": true, "event": true, "tasks": true}

// synonymOf returns the key that a word of another format means; empty if none.
func synonymOf(given string, known []string) string {
	for _, meant := range synonyms[strings.ToLower(given)] {
		if slices.Contains(known, meant) {
			return fmt.Sprintf("; did you mean %s?", meant)
		}
	}
	if actionKeys[given] && slices.Contains(known, "image") {
		return "; move it to the action"
	}
	return ""
}

// didYouMean suggests a similar text; empty if there is none.
func didYouMean(given string, known []string) string {
	const near = 2
	best, distance := "", near+1
	for _, name := range known {
		found := levenshtein.ComputeDistance(strings.ToLower(given), strings.ToLower(name))
		if found < len(name) && (found < distance || found == distance && strings.HasPrefix(name, given[:1])) {
			best, distance = name, found
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}
