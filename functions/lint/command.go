package lint

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/podsecurity"
)

// tool is the name of the program in reports and events.
const tool = "job-executor"

// ErrFound means that a file has a mistake, which has been written. Warnings are no mistakes.
var ErrFound = errors.New("there are mistakes")

// Command returns the command lint. Its errors are ErrFound, wrong usage, and unreadable files.
func Command() *cobra.Command {
	var format string
	command := &cobra.Command{
		Use:   "lint [file|folder|-]...",
		Short: "Find mistakes in job/config.yaml",
		Long: "Finds all mistakes in job/config.yaml, each with its line and column. In a folder it checks each job/config.yaml;\n" +
			"- is the standard input. Without an argument it checks the working directory.\n\n" +
			"The exit code is 1 if there is a mistake, and 2 if something cannot be read.",
		Example:           "  job-executor lint .\n  job-executor lint --format github job/config.yaml",
		ValidArgsFunction: yamlFiles,
		RunE: func(command *cobra.Command, names []string) error {
			write, ok := formats[format]
			if !ok {
				return fmt.Errorf("--format %q must be one of %s", format, strings.Join(formatNames(), ", "))
			}
			sources, err := read(command.InOrStdin(), names)
			if err != nil {
				return err
			}
			return report(command.OutOrStdout(), sources, write)
		},
	}
	command.Flags().StringVar(&format, "format", "text", "how mistakes are written: "+strings.Join(formatNames(), ", "))
	_ = command.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formatNames(), cobra.ShellCompDirectiveNoFileComp))
	return command
}

// PlanCommand returns the command plan. Its errors are those of Command.
func PlanCommand() *cobra.Command {
	var dry dryRun
	command := &cobra.Command{
		Use:   "plan --event event.json [file|folder|-]...",
		Short: "Print the Jobs that an event would create, without a cluster",
		Long: "Prints the actions and tasks of job/config.yaml that an event matches, and the Jobs that it would create, without a cluster.\n" +
			"Mistakes in the file go to the standard error.\n\n" +
			"The exit code is 1 if there is a mistake, and 2 if something cannot be read.",
		Example: "  job-executor plan --event event.json\n" +
			"  job-executor plan --event event.json --secret credentials=USER,PASSWORD job/config.yaml",
		ValidArgsFunction: yamlFiles,
		RunE: func(command *cobra.Command, names []string) error {
			sources, err := read(command.InOrStdin(), names)
			if err != nil {
				return err
			}
			found := report(command.ErrOrStderr(), sources, writeText)
			if found != nil && !errors.Is(found, ErrFound) {
				return found
			}
			// The Jobs are printed in spite of a mistake in an action that the event does not match.
			for _, source := range sources {
				if err := dry.show(command.Context(), command.InOrStdin(), command.OutOrStdout(), source); err != nil && !errors.Is(err, ErrFound) {
					return err
				} else if err != nil {
					found = err
				}
			}
			return found
		},
	}
	flags := command.Flags()
	flags.StringVar(&dry.event, "event", "", "a file with an event as Keptn sends it (JSON)")
	flags.StringArrayVar(&dry.secrets, "secret", nil, "a Secret that exists, with its keys, as name=KEY,OTHER; may be repeated")
	flags.StringArrayVar(&dry.accounts, "service-account", nil, "a service account that exists; may be repeated")
	flags.StringVar(&dry.settings, "settings", "", "a file with the installation's ConfigMaps, such as config/400-configuration.yaml")
	flags.StringVar(&dry.podSecurity, "pod-security", string(podsecurity.Baseline), "the level that the Jobs' namespace enforces: "+strings.Join(podsecurity.Levels(), ", "))
	_ = command.MarkFlagRequired("event")
	_ = command.RegisterFlagCompletionFunc("pod-security", cobra.FixedCompletions(podsecurity.Levels(), cobra.ShellCompDirectiveNoFileComp))
	return command
}

// report writes the findings of all files. It returns ErrFound if one is a mistake.
func report(output io.Writer, sources []source, write func(io.Writer, []Finding) error) error {
	var findings []Finding
	for _, source := range sources {
		findings = append(findings, findingsOf(source.name, jobconfig.Parse(source.content))...)
	}
	if err := write(output, findings); err != nil {
		return fmt.Errorf("write the mistakes: %w", err)
	}
	if slices.ContainsFunc(findings, func(finding Finding) bool { return finding.Severity == Error }) {
		return ErrFound
	}
	return nil
}

func yamlFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}

func formatNames() []string { return slices.Sorted(maps.Keys(formats)) }
