package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/job-executor/job-executor/functions/cli/migrate"
	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/keptn/api"
	"github.com/job-executor/job-executor/functions/lint"
)

// formerName is the integration of the job-executor-service in Keptn, and its Helm release.
const formerName = "job-executor-service"

func (c *commander) migrate() *cobra.Command {
	input := migrate.Input{}
	var values, output string
	command := &cobra.Command{
		Use: "migrate --values FILE [file|folder]...", Short: "Plan the move from job-executor-service", GroupID: groupInstallation,
		Long: "Writes a kustomize overlay and an ordered plan for a move from keptn-contrib/job-executor-service, and says of each value of its Helm release\n" +
			"whether it is applied, not needed, or yours to decide. It changes nothing: you run the plan's commands.\n\n" +
			"The arguments are job/config.yaml files, or folders with some. With Keptn's API, it also reads the subscriptions, and the files of all projects.",
		Example: "  helm get values job-executor-service --namespace keptn --output yaml > values.yaml\n" +
			"  job-executor migrate --values values.yaml --output-directory move",
		RunE: func(command *cobra.Command, names []string) error {
			ctx := command.Context()
			var err error
			if input.Values, err = lint.Content(c.In, values); err != nil {
				return err
			}
			input.Configurations = map[string][]byte{}
			if len(names) > 0 {
				if input.Configurations, err = lint.Contents(c.In, names); err != nil {
					return err
				}
			}
			if client, err := c.keptnClient(); err == nil {
				if err := readKeptn(ctx, client, &input); err != nil {
					return err
				}
			} else if !errors.Is(err, errNoKeptn) {
				return err
			}
			migration, err := migrate.Of(input)
			if err != nil {
				return err
			}
			if err := writeOverlay(output, migration); err != nil {
				return err
			}
			return c.writeDecisions(output, migration)
		},
	}
	flags := command.Flags()
	flags.StringVar(&values, "values", "", "the values of the Helm release (helm get values --output yaml); - is the standard input")
	flags.StringVar(&input.Release, "release", formerName, "the name of the Helm release")
	flags.StringVar(&input.Namespace, "release-namespace", "keptn", "the namespace of the Helm release and its Jobs")
	flags.StringVar(&input.Base, "base", "job-executor.yaml", "the base of the overlay: the release's manifest next to it, or config/ of a repository")
	flags.StringVar(&output, "output-directory", "job-executor-overlay", "where the overlay and the plan go")
	_ = command.MarkFlagRequired("values")
	c.keptn.add(flags)
	return command
}

// readKeptn reads the subscriptions of both integrations, and the files of all projects.
func readKeptn(ctx context.Context, client *api.Client, input *migrate.Input) (err error) {
	if input.Former, err = client.Integrations(ctx, formerName); err != nil {
		return fmt.Errorf("read the subscriptions of %s: %w", formerName, err)
	}
	if input.Own, err = client.Integrations(ctx, "job-executor"); err != nil {
		return fmt.Errorf("read the subscriptions of job-executor: %w", err)
	}
	files, err := client.Configurations(ctx, jobconfig.Path)
	if err != nil {
		return fmt.Errorf("read job/config.yaml of all projects: %w", err)
	}
	maps.Copy(input.Configurations, files)
	return nil
}

func writeOverlay(directory string, migration migrate.Migration) error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return fmt.Errorf("make the directory of the overlay: %w", err)
	}
	files := maps.Clone(migration.Overlay)
	files["PLAN.md"] = migration.Plan
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("write the overlay: %w", err)
		}
	}
	return nil
}

func (c *commander) writeDecisions(directory string, migration migrate.Migration) error {
	table := c.newTable()
	fmt.Fprintln(table, "VALUE\tIS\tVERDICT")
	open := 0
	for _, decision := range migration.Decisions {
		value, _, isLong := strings.Cut(decision.Value, "\n")
		if isLong {
			value += " …"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", decision.Key, value, decision.Verdict)
		if strings.HasPrefix(decision.Verdict, "decide:") {
			open++
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(migration.Overlay))
	_, err := fmt.Fprintf(c.Out, "\n%d values are yours to decide. Written to %s: %s. Next: read PLAN.md.\n", open, directory, strings.Join(append(names, "PLAN.md"), ", "))
	return err
}
