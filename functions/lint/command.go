package lint

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/job-executor/job-executor/functions/jobconfig"
	"github.com/job-executor/job-executor/functions/podsecurity"
)

const name = "job-executor-lint"

// ErrFound means that a file has a mistake, which has been written. Warnings are no mistakes.
var ErrFound = errors.New("there are mistakes")

// Command returns the tool. Its errors are ErrFound, wrong usage, and unreadable files.
func Command(version string) *cobra.Command {
	var format string
	var dry dryRun
	command := &cobra.Command{
		Use:   name + " [flags] [file|folder|-]...",
		Short: "Find mistakes in job/config.yaml",
		Long: "Finds all mistakes in job/config.yaml, each with its line and column. Of a folder it looks at each job/config.yaml in it;\n" +
			"- is the standard input, and without an argument it is the working directory.\n\n" +
			"With --event it also shows which actions and tasks an event matches, and the Jobs that it would make, without a cluster.\n\n" +
			"It exits with 1 if there is a mistake, and with 2 if something can't be read.",
		Example: "  " + name + " .\n  " + name + " --format github job/config.yaml\n  " + name + " --event event.json --secret credentials=USER,PASSWORD job/config.yaml",
		Version: version, SilenceUsage: true, SilenceErrors: true,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(command *cobra.Command, names []string) error {
			write, ok := formats[format]
			if !ok {
				return fmt.Errorf("--format %q must be one of %s", format, strings.Join(formatNames(), ", "))
			}
			if len(names) == 0 {
				names = []string{"."}
			}
			sources, err := read(command.InOrStdin(), names)
			if err != nil {
				return err
			}
			var findings []Finding
			for _, source := range sources {
				findings = append(findings, findingsOf(source.name, jobconfig.Parse(source.content))...)
			}
			output := command.OutOrStdout()
			if dry.event != "" {
				output = command.ErrOrStderr() // standard output is for the Jobs
			}
			if err := write(output, findings); err != nil {
				return fmt.Errorf("writing: %w", err)
			}
			found := error(nil)
			if slices.ContainsFunc(findings, func(finding Finding) bool { return finding.Severity == Error }) {
				found = ErrFound
			}
			if dry.event == "" {
				return found
			}
			// The Jobs are shown in spite of a mistake in an action that the event does not match.
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
	flags.StringVar(&format, "format", "text", "how mistakes are written: "+strings.Join(formatNames(), ", "))
	flags.StringVar(&dry.event, "event", "", "a file with an event as Keptn sends it (JSON): show which actions it matches, and the Jobs")
	flags.StringArrayVar(&dry.secrets, "secret", nil, "a Secret that there is, with its keys, as name=KEY,OTHER; for --event, may be repeated")
	flags.StringArrayVar(&dry.accounts, "service-account", nil, "a service account that there is; for --event, may be repeated")
	flags.StringVar(&dry.settings, "settings", "", "a file with the installation's ConfigMaps, as config/400-configuration.yaml; for --event")
	flags.StringVar(&dry.podSecurity, "pod-security", string(podsecurity.Baseline), "the level that the Jobs' namespace enforces, for --event: "+strings.Join(podsecurity.Levels(), ", "))
	_ = command.RegisterFlagCompletionFunc("pod-security", cobra.FixedCompletions(podsecurity.Levels(), cobra.ShellCompDirectiveNoFileComp))
	_ = command.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formatNames(), cobra.ShellCompDirectiveNoFileComp))
	return command
}

func formatNames() []string { return slices.Sorted(maps.Keys(formats)) }
