//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/job-executor/job-executor/functions/cli"
	"github.com/job-executor/job-executor/test/commands"
	"github.com/job-executor/job-executor/test/console"
)

// The commands show the same on a real cluster as on the embedded one.
func TestCommands(t *testing.T) {
	installed := connect(t)
	cluster, err := cli.Connect(genericclioptions.NewConfigFlags(false))
	must(t, err)
	s := commands.System{Keptn: installed.Keptn, Cluster: cluster, Limit: runLimit}
	commands.Check(t, s)
	t.Run("status", func(t *testing.T) {
		if err := console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
			output, code := s.Call(ctx, "", "status")
			if code != 0 || !strings.Contains(output, "Keptn: integration job-executor, version ") || !strings.Contains(output, "Trigger     all 12 ") ||
				!strings.Contains(output, "Broker      keptn") {
				return fmt.Errorf("exit code %d, %s", code, output)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	t.Run("trace", func(t *testing.T) {
		project, keptnContext := greet(t, installed)
		if err := console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
			output, code := s.Call(ctx, "", "trace", keptnContext, "--jaeger", "observability/jaeger:16686")
			if code != 0 || !strings.HasPrefix(output, "job-executor-bridge: RUN "+project) || !strings.Contains(output, "job-executor-jobs: ") ||
				strings.Contains(output, "missing") {
				return fmt.Errorf("exit code %d, %s", code, output)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
}
