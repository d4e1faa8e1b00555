package documents

import (
	"regexp"
	"strings"
	"testing"

	"github.com/job-executor/job-executor/functions/cli"
)

// Every call of job-executor in a document is valid.
func TestCommandsOfJobExecutorExist(t *testing.T) {
	inline, substitution := regexp.MustCompile("`(?:\\./)?job-executor ([^`]+)`"), regexp.MustCompile(`"?\$\(.*\)"?`)
	calls := 0
	for name, content := range documents(t) {
		var lines []string
		for _, found := range inline.FindAllStringSubmatch(content, -1) {
			lines = append(lines, found[1])
		}
		for _, block := range BlocksOf(name, content) {
			for _, line := range strings.Split(block.Text, "\n") {
				line = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(line), "$ "), "./")
				if rest, ok := strings.CutPrefix(line, "job-executor "); ok && (block.Language == "sh" || block.Language == "console") {
					lines = append(lines, rest)
				}
			}
		}
		for _, line := range lines {
			calls++
			root := cli.New(cli.Surroundings{Name: "job-executor"})
			root.InitDefaultCompletionCmd()
			command, rest, err := root.Find(strings.Fields(substitution.ReplaceAllString(line, "CONTEXT")))
			if err == nil && command == root {
				err = command.ParseFlags(rest)
			} else if err == nil {
				if err = command.ParseFlags(rest); err == nil {
					err = command.ValidateArgs(command.Flags().Args())
				}
			}
			if err != nil {
				t.Errorf("%s: job-executor %s: %v", name, line, err)
			}
		}
	}
	if calls < 20 {
		t.Errorf("only %d calls were found", calls)
	}
}
