package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/job-executor/job-executor/functions/keptn/api"
)

func (c *commander) cancel() *cobra.Command {
	var project string
	var yes bool
	command := &cobra.Command{
		Use: "cancel CONTEXT", Aliases: []string{"abort"}, Short: "Abort a sequence in Keptn; its Jobs are deleted", GroupID: groupRuns, Args: cobra.ExactArgs(1),
		Example: "  job-executor cancel 4ed578f6-1e1e-4a11-9b2e-9a7111760f5b",
		RunE: func(command *cobra.Command, arguments []string) error {
			ctx := command.Context()
			client, sequence, err := c.sequence(ctx, arguments[0])
			if err != nil {
				return err
			}
			if project == "" {
				project = sequence.Project
			}
			question := fmt.Sprintf("Abort sequence %s of service %s in project %s, stage %s (context %s)?", sequence.Name, sequence.Service, project, sequence.Stage, sequence.Context)
			if err := c.confirm(question, yes); err != nil {
				return err
			}
			if err := client.Abort(ctx, project, sequence.Context); err != nil {
				return fmt.Errorf("abort the sequence: %w", err)
			}
			_, err = fmt.Fprintf(c.Out, "sequence %s aborted\n", sequence.Context)
			return err
		},
	}
	command.Flags().StringVar(&project, "project", "", "the project, in place of that of the event which triggered the sequence")
	command.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.keptn.add(command.Flags())
	return command
}

func (c *commander) rerun() *cobra.Command {
	var yes bool
	command := &cobra.Command{
		Use: "rerun CONTEXT", Short: "Trigger a sequence again with the same data", GroupID: groupRuns, Args: cobra.ExactArgs(1),
		Long: "Triggers the sequence of a context again, from its first task and with the same data, and prints the new context.",
		Example: "  job-executor rerun 4ed578f6-1e1e-4a11-9b2e-9a7111760f5b\n" +
			"  job-executor wait $(job-executor rerun 4ed578f6-1e1e-4a11-9b2e-9a7111760f5b --yes)",
		RunE: func(command *cobra.Command, arguments []string) error {
			ctx := command.Context()
			client, sequence, err := c.sequence(ctx, arguments[0])
			if err != nil {
				return err
			}
			question := fmt.Sprintf("Trigger sequence %s of service %s in project %s, stage %s again?", sequence.Name, sequence.Service, sequence.Project, sequence.Stage)
			if err := c.confirm(question, yes); err != nil {
				return err
			}
			keptnContext, err := client.Trigger(ctx, sequence)
			if err != nil {
				return fmt.Errorf("trigger the sequence: %w", err)
			}
			_, err = fmt.Fprintln(c.Out, keptnContext)
			return err
		},
	}
	command.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.keptn.add(command.Flags())
	return command
}

// sequence returns the sequence of a Keptn context, or of the only one of the cluster's runs that begins with the argument.
func (c *commander) sequence(ctx context.Context, argument string) (*api.Client, api.Sequence, error) {
	client, err := c.keptnClient()
	if err != nil {
		return nil, api.Sequence{}, err
	}
	if len(argument) < contextBytes {
		_, runs, err := c.runsOf(ctx, argument)
		if err != nil {
			return nil, api.Sequence{}, err
		}
		argument = runs[0].Task.Context
	}
	sequence, err := client.Sequence(ctx, argument)
	if err != nil {
		return nil, api.Sequence{}, fmt.Errorf("find the sequence of context %s: %w", argument, err)
	}
	return client, sequence, nil
}

var errDeclined = errors.New("nothing was changed")

// confirm asks the user, unless yes is given. Without a terminal there is nobody to ask.
func (c *commander) confirm(question string, yes bool) error {
	if yes {
		return nil
	}
	if file, isFile := c.In.(*os.File); isFile && !term.IsTerminal(int(file.Fd())) {
		return fmt.Errorf("%w: add --yes: without a terminal, nobody can answer", errDeclined)
	}
	if _, err := fmt.Fprintf(c.ErrOut, "%s [y/N] ", question); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c.In).ReadString('\n')
	if err != nil && answer == "" {
		return fmt.Errorf("%w: read the answer: %w", errDeclined, err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errDeclined
	}
	return nil
}
