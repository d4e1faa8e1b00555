package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/keptn/api"
)

func (c *commander) wait() *cobra.Command {
	var next, timeout time.Duration
	command := &cobra.Command{
		Use: "wait CONTEXT", Short: "Wait until a sequence has ended; the exit code is its result", GroupID: groupRuns, Args: cobra.ExactArgs(1),
		Long: "Waits until all tasks of a sequence have ended and Keptn has their results. The first task may not exist yet.\n\n" +
			"Exit codes: 0 pass or warning, 1 fail, 2 errored or no access, 3 timeout.",
		Example: "  job-executor wait 4ed578f6-1e1e-4a11-9b2e-9a7111760f5b --timeout 30m\n" +
			"  job-executor wait $(keptn trigger delivery --project shop --service cart --stage dev --output json | jq -r .keptnContext)",
		RunE: func(command *cobra.Command, arguments []string) error {
			clients, namespace, err := c.connect()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(command.Context(), timeout)
			defer cancel()
			statuses := map[string]string{}
			outcome, err := c.untilOver(ctx, clients.Kubernetes, namespace, arguments[0], next, func(_ context.Context, runs []taskRun) error {
				for _, found := range runs {
					if status := found.Status; statuses[found.ID] != status {
						statuses[found.ID] = status
						if _, err := fmt.Fprintf(c.Out, "%s %s\n", found.Task.Name, status); err != nil {
							return err
						}
					}
				}
				return nil
			})
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return &ExitError{exitTimeout, fmt.Errorf("the sequence of context %s has not ended within %s", arguments[0], timeout)}
			}
			if err != nil {
				return err
			}
			code, failed := map[string]int{string(keptn.ResultFail): exitFail, statusErrored: exitErrored}[outcome]
			switch {
			case !failed:
				return nil
			case len(statuses) == 0:
				return &ExitError{code, fmt.Errorf("the sequence ended as %s without Jobs; job-executor describe %s says why", outcome, arguments[0])}
			default:
				return &ExitError{Code: code}
			}
		},
	}
	const defaultTimeout = time.Hour
	command.Flags().DurationVar(&timeout, "timeout", defaultTimeout, "how long to wait at most")
	c.addNext(command, &next)
	return command
}

const (
	// defaultNext is how long the next task of a sequence may take to begin.
	defaultNext = 20 * time.Second
	// overInterval is the interval of checks whether the sequence is over, besides those at each change.
	overInterval = 2 * time.Second
)

func (c *commander) addNext(command *cobra.Command, next *time.Duration) {
	command.Flags().DurationVar(next, "next-within", defaultNext, "without Keptn's API: how long after a task the sequence's next one may begin")
	c.keptn.add(command.Flags())
}

// untilOver calls look with the runs of a context, at once and when they change, until the sequence has ended, and returns its
// status. Keptn says when it has ended, if the caller has access to Keptn. Otherwise it has if no further task begins within a time
// after Keptn has the results of all runs.
func (c *commander) untilOver(ctx context.Context, client kubernetes.Interface, namespace, keptnContext string, next time.Duration,
	look func(context.Context, []taskRun) error,
) (status string, err error) {
	over := &overCheck{next: next, now: c.Now}
	if over.keptn, err = c.keptnClient(); err != nil && !errors.Is(err, errNoKeptn) {
		return "", err
	}
	err = watch(ctx, client, namespace, selectorOf(keptnContext), overInterval, func(ctx context.Context) (bool, error) {
		found, err := find(ctx, client, namespace, keptnContext)
		if _, isMissing := errors.AsType[*notFoundError](err); err != nil && !isMissing {
			return false, err
		}
		if err := look(ctx, found); err != nil {
			return false, err
		}
		var isOver bool
		isOver, status, err = over.check(ctx, keptnContext, found)
		return isOver, err
	})
	return status, err
}

// overCheck decides whether a sequence is over.
type overCheck struct {
	keptn *api.Client // nil without access
	next  time.Duration
	now   func() time.Time

	// settled is since when all runs are settled, and runs how many they were.
	settled time.Time
	runs    int
}

func (o *overCheck) check(ctx context.Context, keptnContext string, found []taskRun) (isOver bool, status string, err error) {
	status = worstOf(found)
	if slices.ContainsFunc(found, func(one taskRun) bool { return !one.isSettled() }) {
		o.settled = time.Time{}
		return false, status, nil
	}
	if o.keptn != nil {
		return o.ask(ctx, keptnContext, found, status)
	}
	if len(found) == 0 {
		return false, status, nil
	}
	if o.settled.IsZero() || o.runs != len(found) {
		o.settled, o.runs = o.now(), len(found)
	}
	return o.now().Sub(o.settled) >= o.next, status, nil
}

// ask asks Keptn whether a sequence is over. The status of a sequence without runs comes from Keptn's own events.
func (o *overCheck) ask(ctx context.Context, keptnContext string, found []taskRun, status string) (bool, string, error) {
	project := ""
	if len(found) > 0 {
		project, keptnContext = found[0].Task.Project, found[0].Task.Context
	} else {
		answers, err := o.keptn.Answers(ctx, keptnContext)
		if err != nil || len(answers) == 0 {
			return false, status, err
		}
		project = answers[0].Project
		for _, answer := range answers {
			status = worse(status, strings.ToLower(answered(answer.Status, answer.Result)))
		}
	}
	state, err := o.keptn.SequenceState(ctx, project, keptnContext)
	if err != nil {
		return false, status, err
	}
	isOver := slices.Contains([]string{"finished", "aborted", "timedOut", "succeeded"}, state)
	if state == "aborted" || state == "timedOut" {
		status = statusErrored
	}
	return isOver, status, nil
}

// worstOf returns the worst status of runs, empty without any.
func worstOf(runs []taskRun) string {
	worst := ""
	for _, found := range runs {
		worst = worse(worst, found.Status)
	}
	return worst
}

// answered returns the status of a run with such an answer.
func answered(status keptn.Status, result keptn.Result) string {
	if status == keptn.StatusErrored {
		return statusErrored
	}
	return string(result)
}

// worse returns the worse of two statuses.
func worse(one, other string) string {
	order := statuses()
	if slices.Index(order, other) > slices.Index(order, one) {
		return other
	}
	return one
}
