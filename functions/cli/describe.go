package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/job-executor/job-executor/functions/cluster/clientset"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/keptn/api"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/functions/run/store"
	"github.com/job-executor/job-executor/functions/watcher"
)

func (c *commander) describe() *cobra.Command {
	command := &cobra.Command{
		Use: "describe CONTEXT", Short: "Show what happened to each task, and why", GroupID: groupRuns, Args: cobra.ExactArgs(1),
		Long: "Shows each task of a sequence: why it failed or what it waits for, what to do about it, and when each Job and attempt did what.\n" +
			"With Keptn's API, it also shows the state of the sequence there, and Keptn's answers for tasks without Jobs.",
		Example: "  job-executor describe 4ed578f6-1e1e-4a11-9b2e-9a7111760f5b\n  job-executor describe 4ed5",
		RunE: func(command *cobra.Command, arguments []string) error {
			ctx := command.Context()
			clients, runs, err := c.runsOf(ctx, arguments[0])
			if missing, ok := errors.AsType[*notFoundError](err); ok {
				return c.describeFromKeptn(ctx, missing)
			}
			if err != nil {
				return err
			}
			pods := &store.Pods{Client: clientset.Of(clients.Kubernetes)}
			c.writeSequence(ctx, runs[0].Task)
			for index := range runs {
				if err := c.writeRun(ctx, pods, &runs[index]); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.keptn.add(command.Flags())
	return command
}

// writeSequence writes what the runs of a sequence have in common.
func (c *commander) writeSequence(ctx context.Context, task keptn.Task) {
	table := c.newTable()
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s:\t%s\n", name, value)
		}
	}
	line("Context", task.Context)
	line("Project", task.Project)
	line("Stage", task.Stage)
	line("Service", task.Service)
	line("Commit", task.GitCommitID)
	line("Keptn", task.URL)
	line("Trace", task.Labels[traceLabel])
	if client, err := c.keptnClient(); err == nil {
		state, err := client.SequenceState(ctx, task.Project, task.Context)
		if err != nil {
			state = "unknown: " + err.Error()
		}
		line("Sequence", state)
	}
	_ = table.Flush()
}

// traceLabel is the label with the address of the trace, see TRACE_URL.
const traceLabel = "trace"

// writeRun writes a run: its status, why it failed or waits, what to do, and its timeline.
func (c *commander) writeRun(ctx context.Context, pods watcher.Pods, found *taskRun) error {
	now := c.Now()
	fmt.Fprintf(c.Out, "\nTask %s: %s, %s%s\n", found.Task.Name, c.paint(found.Status), cmp.Or(durationOf(found.duration(now)), "0s"), found.reported())
	explained := map[string]protocol.Job{}
	var reasons []string
	for index := range found.Jobs {
		job := &found.Jobs[index]
		about, err := watcher.Explain(ctx, pods, job, now)
		if err != nil {
			return err
		}
		explained[job.Name] = about
		switch {
		case run.IsQueued(job):
			reasons = append(reasons, fmt.Sprintf("It waits for other runs of project %s to end: MAX_ACTIVE_RUNS_PER_PROJECT is reached.", found.Task.Project))
		case about.Failure != "" && run.PhaseOf(job) == run.Running:
			reasons = append(reasons, fmt.Sprintf("Task '%s' waits: %s", about.Task, about.Failure))
		case about.Failure != "":
			reasons = append(reasons, fmt.Sprintf("Task '%s' failed: %s", about.Task, about.Failure))
		}
	}
	for _, planned := range found.Missing {
		reasons = append(reasons, fmt.Sprintf("Job %s in namespace %s was deleted before the task ended: by an abort of the sequence, or by hand.", planned.Name, planned.Namespace))
	}
	for _, reason := range reasons {
		fmt.Fprintf(harmless{c.Out}, "  %s\n", strings.ReplaceAll(strings.TrimSpace(reason), "\n", "\n    "))
	}
	if found.HasEnded && found.Status != string(keptn.ResultPass) {
		fmt.Fprintf(c.Out, "  Logs: job-executor logs %s --task %s --failed\n  Again: job-executor rerun %s\n", found.Task.Context, found.Task.Name, found.Task.Context)
	}
	fmt.Fprintln(c.Out)
	c.writeTimeline(found, explained)
	return nil
}

// reported says whether Keptn has an ended run's result.
func (t *taskRun) reported() string {
	switch {
	case !t.HasEnded:
		return ""
	case run.IsSilent(&t.Jobs[0]):
		return "; silent, so Keptn gets no result"
	case t.ReportedAt.IsZero():
		return "; Keptn has no result yet (job-executor status says whether Keptn can be reached)"
	default:
		return "; Keptn has the result"
	}
}

// maxDetailBytes bounds what the timeline says about a phase.
const maxDetailBytes = 160

func (c *commander) writeTimeline(found *taskRun, explained map[string]protocol.Job) {
	table := c.newTable()
	row := func(at time.Time, took time.Duration, task, what, detail string) {
		detail, _, _ = strings.Cut(detail, "\n")
		if len(detail) > maxDetailBytes {
			detail = strings.ToValidUTF8(detail[:maxDetailBytes], "") + "…"
		}
		fmt.Fprintln(table, strings.TrimRight(fmt.Sprintf("  %s\t%s\t%s\t%s\t%s", at.In(c.Now().Location()).Format(time.TimeOnly), durationOf(took), task, what, detail), "\t"))
	}
	fmt.Fprintln(table, "  TIME\tDURATION\tTASK\tWHAT\tDETAIL")
	row(found.began(), 0, "", "triggered", "by Keptn")
	for _, planned := range found.Plan {
		job, exists := explained[planned.Name]
		switch {
		case !exists:
			continue
		case run.PhaseOf(found.job(planned.Name)) == run.Waiting:
			row(job.Began, c.Now().Sub(job.Began), job.Task, "suspended", "until its turn")
			continue
		}
		for _, phase := range job.Phases {
			what := phase.Name
			if phase.Attempt > 1 {
				what = fmt.Sprintf("%s, attempt %d", phase.Name, phase.Attempt)
			}
			row(phase.Began, phase.Ended.Sub(phase.Began), job.Task, what, detailOf(phase))
			for _, seen := range phase.Events {
				if seen.Reason != "" && isTelling(seen.Reason) {
					row(seen.At, 0, job.Task, "", seen.Reason+": "+seen.Message)
				}
			}
		}
	}
	if found.HasEnded {
		row(found.Ended, 0, "", "ended", found.Status)
	}
	if !found.ReportedAt.IsZero() {
		row(found.ReportedAt, 0, "", "reported", "Keptn has the result")
	}
	_ = table.Flush()
}

// isTelling reports whether a Kubernetes event says more than the phases do.
func isTelling(reason string) bool {
	switch reason {
	case "Scheduled", "Pulling", "Pulled", "Created", "Started", "SuccessfulCreate", "Completed", "Resumed", "Suspended":
		return false
	default:
		return true
	}
}

func detailOf(phase protocol.Phase) string {
	var parts []string
	if phase.Failure != "" {
		parts = append(parts, phase.Failure)
	} else if phase.ExitCode != nil {
		parts = append(parts, fmt.Sprintf("exit code %d", *phase.ExitCode))
	}
	if phase.Pod != "" && (phase.Name == protocol.PhasePending || phase.Name == protocol.PhaseRun) {
		on := ""
		if phase.Node != "" {
			on = " on " + phase.Node
		}
		parts = append(parts, phase.Pod+on)
	}
	return strings.Join(parts, "; ")
}

func durationOf(took time.Duration) string {
	switch {
	case took <= 0:
		return ""
	case took < time.Second:
		return "<1s"
	default:
		return duration.HumanDuration(took)
	}
}

// paint colours a status in a terminal, unless NO_COLOR is set (https://no-color.org).
func (c *commander) paint(status string) string {
	if !printers.AllowsColorOutput(c.Out) {
		return status
	}
	colour := "\x1b[33m" // yellow
	switch status {
	case string(keptn.ResultPass):
		colour = "\x1b[32m" // green
	case string(keptn.ResultFail), statusErrored:
		colour = "\x1b[31m" // red
	}
	return colour + status + "\x1b[0m"
}

// describeFromKeptn writes Keptn's own events of a context without Jobs.
func (c *commander) describeFromKeptn(ctx context.Context, missing *notFoundError) error {
	client, err := c.keptnClient()
	if err != nil {
		return errors.Join(missing, fmt.Errorf("to see what Keptn has: %w", err))
	}
	answers, err := client.Answers(ctx, missing.keptnContext)
	if err != nil {
		return fmt.Errorf("ask Keptn about context %s: %w", missing.keptnContext, err)
	}
	entries, err := client.LogEntries(ctx, missing.keptnContext)
	if err != nil {
		return fmt.Errorf("ask Keptn's log about context %s: %w", missing.keptnContext, err)
	}
	state, err := c.writeState(ctx, client, missing.keptnContext)
	if len(answers)+len(entries) == 0 {
		if err != nil {
			return errors.Join(missing, err)
		}
		hint := "No task of it has Jobs or a result. job-executor status says what is subscribed to and what waits."
		if state == "waiting" { // recording 46-queued
			hint = "Keptn runs the sequences of a service in a stage one after the other, and an earlier one has not ended."
		}
		_, err := fmt.Fprintln(c.Out, " ", hint)
		return err
	}
	fmt.Fprintf(c.Out, "The Jobs of context %s do not exist any more, or never did. Keptn has:\n\n", missing.keptnContext)
	table := c.newTable()
	fmt.Fprintln(table, "TIME\tWHAT\tRESULT\tMESSAGE")
	row := func(at time.Time, what, result, message string) {
		message, _, _ = strings.Cut(message, "\n")
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", at.In(c.Now().Location()).Format(time.DateTime), what, result, message)
	}
	for _, entry := range entries {
		row(entry.Time, "log of task "+entry.Task, "", entry.Message)
	}
	for _, answer := range answers {
		row(answer.At, strings.TrimPrefix(answer.Type, keptn.TypePrefix), answered(answer.Status, answer.Result), answer.Message)
	}
	return table.Flush()
}

// writeState writes and returns Keptn's state of a sequence. It writes nothing about a sequence whose trigger Keptn does
// not know.
func (c *commander) writeState(ctx context.Context, client *api.Client, keptnContext string) (state string, err error) {
	sequence, err := client.Sequence(ctx, keptnContext)
	if err != nil {
		return "", err
	}
	state, err = client.SequenceState(ctx, sequence.Project, sequence.Context)
	if err != nil {
		return "", fmt.Errorf("ask Keptn about the sequence of context %s: %w", sequence.Context, err)
	}
	_, err = fmt.Fprintf(c.Out, "Sequence %s of service %s in project %s, stage %s is %s in Keptn.\n",
		sequence.Name, sequence.Service, sequence.Project, sequence.Stage, state)
	return state, err
}

// newTable returns a table of lines whose cells end with tabs.
func (c *commander) newTable() *tabwriter.Writer {
	const gap = 2
	return tabwriter.NewWriter(harmless{c.Out}, 0, 0, gap, ' ', 0)
}

// harmless writes texts of tasks and others to a terminal, without what would control it.
type harmless struct{ io.Writer }

// Write writes to the writer below.
func (h harmless) Write(content []byte) (int, error) {
	if err := printers.WriteEscaped(h.Writer, string(content)); err != nil {
		return 0, err
	}
	return len(content), nil
}
