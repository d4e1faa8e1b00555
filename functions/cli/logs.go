package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/job-executor/job-executor/functions/run"
)

// logWish is which logs to print.
type logWish struct {
	task       string
	attempt    int
	onlyFailed bool
	all        bool
	timestamps bool
	tail       int64
}

func (c *commander) logs() *cobra.Command {
	wish := logWish{tail: -1}
	var follow bool
	var next time.Duration
	command := &cobra.Command{
		Use: "logs CONTEXT", Short: "Print the logs of all tasks in order", GroupID: groupRuns, Args: cobra.ExactArgs(1),
		Long: "Prints the logs of a sequence's Jobs in their order, each below a line with its task and attempt.\n" +
			"With --follow it goes on from task to task, until the sequence has ended.",
		Example: "  job-executor logs 4ed578f6-1e1e-4a11-9b2e-9a7111760f5b --follow\n  job-executor logs 4ed5 --failed\n  job-executor logs 4ed5 --task load-test --attempt 2",
		RunE: func(command *cobra.Command, arguments []string) error {
			clients, namespace, err := c.connect()
			if err != nil {
				return err
			}
			printer := &logPrinter{client: clients.Kubernetes, out: c.Out, wish: wish, printed: map[string]bool{}}
			ctx := command.Context()
			if !follow {
				runs, err := find(ctx, clients.Kubernetes, namespace, arguments[0])
				if err != nil {
					return err
				}
				return printer.print(ctx, runs, false)
			}
			_, err = c.untilOver(ctx, clients.Kubernetes, namespace, arguments[0], next, func(ctx context.Context, runs []taskRun) error {
				return printer.print(ctx, runs, true)
			})
			return err
		},
	}
	flags := command.Flags()
	flags.BoolVarP(&follow, "follow", "f", false, "print what is written from now on, too, from task to task")
	flags.BoolVar(&wish.onlyFailed, "failed", false, "only Jobs that failed")
	flags.StringVar(&wish.task, "task", "", "only this task of Keptn or of job/config.yaml")
	flags.IntVar(&wish.attempt, "attempt", 0, "only this attempt of each Job, from 1")
	flags.BoolVar(&wish.all, "all-containers", false, "also the containers that fetch files, and sidecars")
	flags.BoolVar(&wish.timestamps, "timestamps", false, "begin each line with its time")
	flags.Int64Var(&wish.tail, "tail", -1, "only the last lines of each log; -1 for all")
	c.addNext(command, &next)
	return command
}

// logPrinter prints each log once.
type logPrinter struct {
	client  kubernetes.Interface
	out     io.Writer
	wish    logWish
	printed map[string]bool
}

// print prints the logs of the containers that have started. With follow, it prints each log until its container ends.
func (l *logPrinter) print(ctx context.Context, runs []taskRun, follow bool) error {
	for index := range runs {
		found := &runs[index]
		for _, planned := range found.Plan {
			job := found.job(planned.Name)
			if job == nil || l.wish.task != "" && l.wish.task != found.Task.Name && l.wish.task != planned.Task || l.wish.onlyFailed && !found.hasFailed(job) {
				continue
			}
			for attempt, pod := range found.Pods[job.Name] {
				if l.wish.attempt != 0 && l.wish.attempt != attempt+1 {
					continue
				}
				title := fmt.Sprintf("%s / %s", found.Task.Name, planned.Task)
				if attempt > 0 || len(found.Pods[job.Name]) > 1 {
					title += fmt.Sprintf(", attempt %d", attempt+1)
				}
				if err := l.pod(ctx, &pod, title, follow); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (l *logPrinter) pod(ctx context.Context, pod *corev1.Pod, title string, follow bool) error {
	statuses := slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
	for _, status := range statuses {
		isTask := status.Name == run.TaskContainer
		// The log of a fetcher matters if it failed.
		isFailedFetcher := status.Name == run.FetcherContainer && status.State.Terminated != nil && status.State.Terminated.ExitCode != 0
		key := string(pod.UID) + pod.Name + "/" + status.Name
		if l.printed[key] || run.StartedAt(status.State).IsZero() || !isTask && !l.wish.all && !isFailedFetcher {
			continue
		}
		l.printed[key] = true
		heading := title
		if !isTask {
			heading += ", container " + status.Name
		}
		if _, err := fmt.Fprintf(l.out, "==> %s <==\n", heading); err != nil {
			return err
		}
		options := &corev1.PodLogOptions{Container: status.Name, Follow: follow && isTask, Timestamps: l.wish.timestamps}
		if l.wish.tail >= 0 {
			options.TailLines = &l.wish.tail
		}
		if err := l.copy(ctx, pod, options); err != nil {
			return err
		}
	}
	return nil
}

func (l *logPrinter) copy(ctx context.Context, pod *corev1.Pod, options *corev1.PodLogOptions) error {
	stream, err := l.client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).Stream(ctx)
	if err != nil {
		_, err = fmt.Fprintf(l.out, "(the log cannot be read: %v)\n", err)
		return err
	}
	defer func() { _ = stream.Close() }()
	end := &endOfLine{Writer: l.out, atStart: true}
	if _, err := io.Copy(end, stream); err != nil && ctx.Err() == nil {
		return fmt.Errorf("read the log of pod %s: %w", pod.Name, err)
	}
	return end.finish()
}

// endOfLine adds the end of the last line, if a log lacks it.
type endOfLine struct {
	io.Writer

	atStart bool
}

// Write writes to the writer below.
func (e *endOfLine) Write(content []byte) (int, error) {
	if len(content) > 0 {
		e.atStart = content[len(content)-1] == '\n'
	}
	return e.Writer.Write(content)
}

func (e *endOfLine) finish() error {
	if e.atStart {
		return nil
	}
	_, err := fmt.Fprintln(e.Writer)
	return err
}
