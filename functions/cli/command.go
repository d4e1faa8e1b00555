package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/job-executor/job-executor/functions/lint"
)

// Surroundings are what the commands use of the world.
type Surroundings struct {
	genericiooptions.IOStreams

	// Name is the name of the called program. As a plugin, its help shows the command of kubectl or kn.
	Name    string
	Version string
	Now     func() time.Time
	// Getenv returns a variable of the environment.
	Getenv func(name string) string
	// Connect returns clients of the cluster that the flags select.
	Connect func(genericclioptions.RESTClientGetter) (Cluster, error)
	// Transport calls Keptn and Jaeger.
	Transport http.RoundTripper
	// Open shows an address in the user's browser.
	Open func(ctx context.Context, address string) error
}

// Cluster has the clients of a cluster.
type Cluster struct {
	Kubernetes kubernetes.Interface
	// Knative reads objects of Knative.
	Knative dynamic.Interface
}

// Connect returns clients of the cluster that the flags select.
func Connect(flags genericclioptions.RESTClientGetter) (Cluster, error) {
	config, err := flags.ToRESTConfig()
	if err != nil {
		return Cluster{}, fmt.Errorf("read the kubeconfig: %w", err)
	}
	whole, err := kubernetes.NewForConfig(config)
	if err != nil {
		return Cluster{}, fmt.Errorf("use the kubeconfig: %w", err)
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return Cluster{}, fmt.Errorf("use the kubeconfig: %w", err)
	}
	return Cluster{Kubernetes: whole, Knative: objects}, nil
}

// The exit codes. Fail, errored and timeout are those of wait.
const (
	exitFail    = 1
	exitErrored = 2
	exitTimeout = 3
)

// ExitError ends the program with a code.
type ExitError struct {
	Code int
	Err  error
}

// Error returns the message of its error, which may be nil.
func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap returns its error.
func (e *ExitError) Unwrap() error { return e.Err }

// ExitCode returns the exit code for a command's error: that of an ExitError, 1 if a file has mistakes, 2 for wrong usage and
// what cannot be read.
func ExitCode(err error) int {
	exit, isExit := errors.AsType[*ExitError](err)
	switch {
	case err == nil:
		return 0
	case isExit:
		return exit.Code
	case errors.Is(err, lint.ErrFound):
		return exitFail
	default:
		return exitErrored
	}
}

// IsSilent reports whether a command has already written what its error means.
func IsSilent(err error) bool {
	exit, isExit := errors.AsType[*ExitError](err)
	return errors.Is(err, lint.ErrFound) || isExit && exit.Err == nil
}

// defaultNamespace is the namespace of Jobs in config/.
const defaultNamespace = "job-executor-jobs"

// commander has what all commands share.
type commander struct {
	Surroundings

	flags         *genericclioptions.ConfigFlags
	allNamespaces bool
	keptn         keptnFlags
}

// New returns the command.
func New(surroundings Surroundings) *cobra.Command {
	namespace := defaultNamespace
	flags := &genericclioptions.ConfigFlags{
		KubeConfig: new(string), Context: new(string), Namespace: &namespace, Impersonate: new(string), ImpersonateGroup: &[]string{}, Timeout: new("0"),
	}
	c := &commander{Surroundings: surroundings, flags: flags}
	root := &cobra.Command{
		Use: "job-executor", Short: "Lists, explains and repeats runs, and checks job/config.yaml",
		Long: "Lists, explains, follows and repeats the runs of Job Executor, and checks job/config.yaml.\n\n" +
			"A run is the Jobs of one task of a Keptn sequence. CONTEXT is the sequence's Keptn context, or its beginning; list shows the contexts.",
		Version: surroundings.Version, SilenceUsage: true, SilenceErrors: true,
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: displayName(surroundings.Name)},
	}
	root.SetIn(surroundings.In)
	root.SetOut(surroundings.Out)
	root.SetErr(surroundings.ErrOut)
	root.AddGroup(&cobra.Group{ID: groupRuns, Title: "Runs:"}, &cobra.Group{ID: groupFiles, Title: "job/config.yaml:"}, &cobra.Group{ID: groupInstallation, Title: "Installation:"})
	cluster := []*cobra.Command{c.list(), c.describe(), c.logs(), c.wait(), c.cancel(), c.rerun(), c.trace(), c.status(), c.migrate()}
	for _, command := range cluster {
		flags.AddFlags(command.Flags())
	}
	linter, planner := lint.Command(), lint.PlanCommand()
	linter.GroupID, planner.GroupID = groupFiles, groupFiles
	root.AddCommand(append(cluster, linter, planner)...)
	for _, command := range root.Commands() {
		command.Example = withName(command.Example, displayName(surroundings.Name))
	}
	return root
}

const (
	groupRuns         = "runs"
	groupFiles        = "files"
	groupInstallation = "installation"
)

// displayName returns the name of a called program in help. kubectl and kn find a plugin by the name of its file, in which "_" stands for
// the "-" of a command (kn: knative/client, pkg/plugin/manager.go).
func displayName(program string) string {
	switch name := strings.TrimSuffix(filepath.Base(program), ".exe"); name {
	case "kubectl-job_executor":
		return "kubectl job-executor"
	case "kn-job_executor":
		return "kn job-executor"
	default:
		return "job-executor"
	}
}

// withName writes the called program's name into examples.
func withName(example, name string) string {
	lines := strings.Split(example, "\n")
	for index, line := range lines {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "job-executor "); ok {
			lines[index] = "  " + name + " " + rest
		}
	}
	return strings.Join(lines, "\n")
}

// connect returns the clients, and the namespace of the flags; empty for all.
func (c *commander) connect() (Cluster, string, error) {
	clients, err := c.Connect(c.flags)
	namespace := *c.flags.Namespace
	if c.allNamespaces {
		namespace = ""
	}
	return clients, namespace, err
}

// runsOf returns the runs of a Keptn context or of its beginning, as find does, and the clients.
func (c *commander) runsOf(ctx context.Context, keptnContext string) (Cluster, []taskRun, error) {
	clients, namespace, err := c.connect()
	if err != nil {
		return Cluster{}, nil, err
	}
	runs, err := find(ctx, clients.Kubernetes, namespace, keptnContext)
	return clients, runs, err
}
