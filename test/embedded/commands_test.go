package embedded

import (
	"testing"
	"time"

	"github.com/job-executor/job-executor/functions/cli"
	"github.com/job-executor/job-executor/test/commands"
	"github.com/job-executor/job-executor/test/console"
)

func TestCommands(t *testing.T) {
	system := start(t, Options{})
	commands.Check(t, commands.System{
		Keptn: console.Keptn{Call: system.Call}, Cluster: cli.Cluster{Kubernetes: system.Cluster.Client(nil)}, Limit: time.Minute,
	})
}
