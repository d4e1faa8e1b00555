package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/kubernetes"

	"github.com/job-executor/job-executor/functions/run"
)

// filter selects runs.
type filter struct {
	keptnContext, project, stage, service, task, status string
	since                                               time.Duration
}

func (f filter) keeps(found *taskRun, now time.Time) bool {
	for wanted, value := range map[*string]string{
		&f.project: found.Task.Project, &f.stage: found.Task.Stage, &f.service: found.Task.Service, &f.task: found.Task.Name, &f.status: found.Status,
	} {
		if *wanted != "" && *wanted != value {
			return false
		}
	}
	return strings.HasPrefix(found.Task.Context, f.keptnContext) && (f.since == 0 || found.began().After(now.Add(-f.since)))
}

func (c *commander) list() *cobra.Command {
	var only filter
	var follow, noHeaders bool
	output := genericclioptions.NewPrintFlags("")
	command := &cobra.Command{
		Use: "list [CONTEXT]", Aliases: []string{"ls", "get"}, Short: "List runs, the newest first", GroupID: groupRuns, Args: cobra.MaximumNArgs(1),
		Long: "Lists the runs whose Jobs exist, the newest first. STATUS is creating, queued or running, or how Keptn counts an ended run: pass, warning, fail " +
			"or errored.",
		Example: "  job-executor list --project shop --status errored --since 24h\n  job-executor list --watch\n  job-executor list --output wide",
		RunE: func(command *cobra.Command, arguments []string) error {
			only.keptnContext = strings.Join(arguments, "")
			if only.status != "" && !slices.Contains(statuses(), only.status) {
				return fmt.Errorf("--status %q must be one of %s", only.status, strings.Join(statuses(), ", "))
			}
			write, err := c.runPrinter(output, noHeaders)
			if err != nil {
				return err
			}
			clients, namespace, err := c.connect()
			if err != nil {
				return err
			}
			read := func(ctx context.Context) ([]taskRun, error) {
				runs, err := fetch(ctx, clients.Kubernetes, namespace, run.Selector)
				return slices.DeleteFunc(runs, func(found taskRun) bool { return !only.keeps(&found, c.Now()) }), err
			}
			ctx := command.Context()
			if follow {
				return c.follow(ctx, clients.Kubernetes, namespace, read, write)
			}
			runs, err := read(ctx)
			if err != nil {
				return err
			}
			if len(runs) == 0 && *output.OutputFormat == "" {
				_, err := fmt.Fprintf(c.ErrOut, "No runs found in %s.\n", placeOf(namespace))
				return err
			}
			return write(runs)
		},
	}
	flags := command.Flags()
	flags.StringVar(&only.project, "project", "", "only runs of this project")
	flags.StringVar(&only.stage, "stage", "", "only runs of this stage")
	flags.StringVar(&only.service, "service", "", "only runs of this service")
	flags.StringVar(&only.task, "task", "", "only runs of this Keptn task, such as test")
	flags.StringVar(&only.status, "status", "", "only runs with this status: "+strings.Join(statuses(), ", "))
	flags.DurationVar(&only.since, "since", 0, "only runs triggered within this time, such as 24h")
	flags.BoolVarP(&follow, "watch", "w", false, "print runs again when they change")
	flags.BoolVar(&noHeaders, "no-headers", false, "print no line of headers")
	flags.BoolVarP(&c.allNamespaces, "all-namespaces", "A", false, "list the runs of all namespaces")
	output.AddFlags(command)
	_ = command.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(statuses(), cobra.ShellCompDirectiveNoFileComp))
	return command
}

// follow writes the runs, and again those that have changed, until the context ends.
func (c *commander) follow(ctx context.Context, client kubernetes.Interface, namespace string, read func(context.Context) ([]taskRun, error), write func([]taskRun) error) error {
	printed := map[string]string{}
	return watch(ctx, client, namespace, run.Selector, 0, func(ctx context.Context) (bool, error) {
		runs, err := read(ctx)
		if err != nil {
			return false, err
		}
		slices.Reverse(runs)
		var changed []taskRun
		for _, found := range runs {
			state := fmt.Sprint(found.Status, found.done(), found.isSettled())
			if printed[found.ID] != state {
				printed[found.ID] = state
				changed = append(changed, found)
			}
		}
		if len(changed) == 0 {
			return false, nil
		}
		return false, write(changed)
	})
}

// runPrinter returns a function that prints runs in the format of the flag --output: a table, or objects.
func (c *commander) runPrinter(output *genericclioptions.PrintFlags, noHeaders bool) (func([]taskRun) error, error) {
	if format := *output.OutputFormat; format == "" || format == "wide" {
		table := printers.NewTablePrinter(printers.PrintOptions{Wide: format == "wide", NoHeaders: noHeaders})
		return func(runs []taskRun) error { return table.PrintObj(c.table(runs), c.Out) }, nil
	}
	printer, err := output.ToPrinter()
	if err != nil {
		return nil, fmt.Errorf("--output: %w, wide", err)
	}
	return func(runs []taskRun) error {
		list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": runVersion, "kind": "RunList"}}
		for index := range runs {
			list.Items = append(list.Items, runs[index].object())
		}
		return printer.PrintObj(list, c.Out)
	}, nil
}

func (c *commander) table(runs []taskRun) *metav1.Table {
	const wide = 1
	table := &metav1.Table{ColumnDefinitions: []metav1.TableColumnDefinition{
		{Name: "Context"}, {Name: "Project"}, {Name: "Stage"}, {Name: "Service"}, {Name: "Task"}, {Name: "Status"}, {Name: "Jobs"}, {Name: "Age"}, {Name: "Duration"},
		{Name: "Reported", Priority: wide}, {Name: "Namespaces", Priority: wide}, {Name: "Run", Priority: wide},
	}}
	now := c.Now()
	for index := range runs {
		found := &runs[index]
		reported := "no"
		if !found.ReportedAt.IsZero() {
			reported = duration.HumanDuration(now.Sub(found.ReportedAt)) + " ago"
		}
		task := found.Task
		table.Rows = append(table.Rows, metav1.TableRow{Cells: []any{
			task.Context, task.Project, task.Stage, task.Service, task.Name, found.Status, fmt.Sprintf("%d/%d", found.done(), len(found.Plan)),
			duration.HumanDuration(now.Sub(found.began())), duration.HumanDuration(found.duration(now)), reported, strings.Join(found.namespaces(), ","), found.ID,
		}})
	}
	return table
}

// namespaces returns the namespaces of a run's Jobs.
func (t *taskRun) namespaces() []string {
	var all []string
	for _, planned := range t.Plan {
		if !slices.Contains(all, planned.Namespace) {
			all = append(all, planned.Namespace)
		}
	}
	return all
}

// runVersion is the apiVersion of printed runs. The cluster has no such objects.
const runVersion = "job-executor.github.io/v1"

// object returns a run for --output json, yaml, name and the like.
func (t *taskRun) object() unstructured.Unstructured {
	var jobs []any
	for _, planned := range t.Plan {
		job := map[string]any{"namespace": planned.Namespace, "name": planned.Name, "task": planned.Task, "phase": "missing"}
		if found := t.job(planned.Name); found != nil {
			job["phase"] = string(run.PhaseOf(found))
		}
		jobs = append(jobs, job)
	}
	status := map[string]any{"phase": t.Status, "jobs": jobs}
	for name, at := range map[string]time.Time{"completionTime": t.Ended, "reportedTime": t.ReportedAt} {
		if !at.IsZero() && t.HasEnded {
			status[name] = at.UTC().Format(time.RFC3339)
		}
	}
	return unstructured.Unstructured{Object: map[string]any{
		"apiVersion": runVersion, "kind": "Run",
		"metadata": map[string]any{"name": t.ID, "namespace": t.Jobs[0].Namespace, "creationTimestamp": t.began().UTC().Format(time.RFC3339)},
		"spec": map[string]any{
			"context": t.Task.Context, "project": t.Task.Project, "stage": t.Task.Stage, "service": t.Task.Service, "task": t.Task.Name,
		},
		"status": status,
	}}
}
