package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
)

const usage = `usage: go -C test/cluster run . COMMAND

  up              bring the cluster up; where it is up already, check it
  up-node         the second half of up, which runs inside the cluster's network
  down            take it down; nothing but the cache of builds is left
  status          say whether it is up
  exec COMMAND…   run a command inside the cluster's network, with KUBECONFIG,
                  KO_DOCKER_REPO and PATH set for it
  pause NAME TIME stop a program of the cluster, such as kube-apiserver, for a time
  broker CLASS    have Brokers keep their events in-memory, or in natss: NATS
                  JetStream, or install what Brokers of the class rabbitmq need;
                  a change deletes all Brokers, Triggers and SinkBindings
  up-rabbitmq     the second half of broker rabbitmq, inside the cluster's network
  build           compile and download what up needs, and start nothing
`

func main() {
	flag.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command(ctx, flag.Args())
	stop()
	var exit *exec.ExitError
	if flag.Arg(0) == "exec" && errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, arguments []string) error {
	if len(arguments) == 0 {
		flag.Usage()
		return errors.New("which command?")
	}
	repository, err := repositoryRoot()
	if err != nil {
		return err
	}
	cluster, err := newCluster(repository)
	if err != nil {
		return err
	}
	if own := os.Getenv("KUBECONFIG"); own != "" && own != cluster.kubeconfig() {
		return withOwnCluster(ctx, repository, own, arguments)
	}
	switch arguments[0] {
	case "up":
		return cluster.up(ctx)
	case "up-node":
		return cluster.upNode(ctx)
	case "up-rabbitmq":
		return cluster.upRabbitMQ(ctx)
	case "build":
		return cluster.build(ctx)
	case "down":
		return cluster.down(ctx)
	case "status":
		return cluster.status(ctx)
	case "pause":
		const words = 3
		if len(arguments) != words {
			return errors.New("pause what, and for how long?")
		}
		return cluster.pause(ctx, arguments[1], arguments[2])
	case "broker":
		const words = 2
		if len(arguments) != words {
			return errors.New("which Brokers: in-memory, natss or rabbitmq?")
		}
		return cluster.broker(ctx, arguments[1])
	case "exec":
		return cluster.exec(ctx, arguments[1:])
	default:
		flag.Usage()
		return fmt.Errorf("there is no command %q", arguments[0])
	}
}

// withOwnCluster uses an existing cluster with Knative.
func withOwnCluster(ctx context.Context, repository, kubeconfig string, arguments []string) error {
	if arguments[0] != "exec" {
		fmt.Printf("KUBECONFIG is set to %s: that cluster is used, nothing is built.\n", kubeconfig)
		return nil
	}
	if len(arguments) < 2 {
		return errors.New("exec needs a command")
	}
	if os.Getenv("KO_DOCKER_REPO") == "" {
		return errors.New("KUBECONFIG is set, so KO_DOCKER_REPO must name a registry that the cluster can pull from")
	}
	return runAttached(ctx, repository, arguments[1:], os.Environ())
}

// runAttached runs a command in the repository with the terminal of this process.
func runAttached(ctx context.Context, repository string, arguments, environment []string) error {
	command := exec.CommandContext(ctx, arguments[0], arguments[1:]...) //nolint:gosec // the user's own command
	command.Dir, command.Env = repository, environment
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	return command.Run()
}

func repositoryRoot() (string, error) {
	directory, err := os.Getwd()
	for err == nil && directory != "/" {
		if _, missing := os.Stat(filepath.Join(directory, "test", "cluster", "main.go")); missing == nil {
			return directory, nil
		}
		directory = filepath.Dir(directory)
	}
	return "", errors.New("run this inside the repository of job-executor")
}
