package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// RabbitMQ's topology operator creates the exchanges, queues and bindings for which eventing-rabbitmq creates objects. It needs an older
// controller-runtime, so it is compiled alone. RabbitMQ's cluster operator would install RabbitMQ from an image of Docker Hub, so the
// server here is Debian's, and the object that describes it is written by hand.
const (
	topologyOperator = "messaging-topology-operator"
	topologyVersion  = "v1.12.0"
	clusterOperator  = "github.com/rabbitmq/cluster-operator@v1.14.0"
)

func rabbitManifests() manifests {
	return manifests{name: "rabbitmq", paths: map[string][]string{
		"knative.dev/eventing-rabbitmq": {"config/broker"},
		clusterOperator:                 {"config/crd/bases"},
		"github.com/rabbitmq/" + topologyOperator + "@" + topologyVersion: {"config/crd/bases"},
	}}
}

func (c *cluster) rabbitArtifacts() []artifact {
	const server = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	return []artifact{
		{
			name: "RabbitMQ", expect: time.Minute, files: []string{server},
			make: func(ctx context.Context) error {
				return c.installPackages(ctx, map[string]string{server: "rabbitmq-server"})
			},
		},
		{
			name: "Knative's Broker for RabbitMQ", key: digest(c.programs(""), "rabbitmq"), expect: 2 * time.Minute,
			make: func(ctx context.Context) error {
				if _, err := c.download(ctx, clusterOperator); err != nil {
					return err
				}
				return c.compileTools(ctx, c.programs("rabbitmq"))
			},
		},
		{
			name: "RabbitMQ's topology operator", key: topologyVersion, expect: 3 * time.Minute,
			make: func(ctx context.Context) error {
				directory, err := c.unpack(ctx, topologyOperator, "github.com/rabbitmq/"+topologyOperator, topologyVersion)
				if err != nil {
					return err
				}
				return c.compileCopy(ctx, directory, ".")
			},
		},
	}
}

// upRabbitMQ runs inside the network namespace.
func (c *cluster) upRabbitMQ(ctx context.Context) error {
	return c.do(ctx, []step{
		{"images of Knative's Broker for RabbitMQ", time.Minute, func(ctx context.Context) error { return c.resolve(ctx, rabbitManifests()) }},
		{"RabbitMQ", 20 * time.Second, c.startRabbitMQ},
		{"Knative's Broker for RabbitMQ", 30 * time.Second, c.installRabbitMQ},
	})
}

// startRabbitMQ starts the server as one process, which replaces its script, and the daemon that it would start otherwise.
func (c *cluster) startRabbitMQ(ctx context.Context) error {
	directory := c.file("rabbitmq")
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return fmt.Errorf("create RabbitMQ's directory: %w", err)
	}
	path := func(name string) string { return filepath.Join(directory, name) }
	for name, content := range map[string]string{
		"enabled_plugins": "[rabbitmq_management].\n",
		"rabbitmq.conf":   "listeners.tcp.default = " + nodeAddress + ":5672\nmanagement.tcp.ip = " + nodeAddress + "\nmanagement.tcp.port = 15672\nloopback_users = none\n",
	} {
		if err := os.WriteFile(path(name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("write RabbitMQ's settings: %w", err)
		}
	}
	const loopback = "127.0.0.1"
	if err := c.start(ctx, "epmd", answers(loopback+":4369"), "epmd", "-address", loopback); err != nil {
		return err
	}
	return c.start(ctx, "rabbitmq", answers(nodeAddress+":15672"), "env", "HOME="+directory, "ERL_EPMD_ADDRESS="+loopback,
		"RABBITMQ_NODENAME=rabbit@localhost", "RABBITMQ_MNESIA_BASE="+path("mnesia"), "RABBITMQ_LOGS=-", "RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_ENABLED_PLUGINS_FILE="+path("enabled_plugins"), "RABBITMQ_CONFIG_FILE="+path("rabbitmq.conf"),
		"RABBITMQ_ALLOW_INPUT=1", "RABBITMQ_SERVER_START_ARGS=-noinput", "/usr/lib/rabbitmq/bin/rabbitmq-server")
}

func (c *cluster) installRabbitMQ(ctx context.Context) error {
	if err := c.applyResolved(ctx, rabbitManifests()); err != nil {
		return err
	}
	path, err := c.render("rabbitmq.yaml")
	if err != nil {
		return err
	}
	if err := c.apply(ctx, path); err != nil {
		return err
	}
	// As RabbitMQ's cluster operator would.
	const status = `{"status": {"conditions": [], "binding": {"name": "rabbitmq-default-user"}, "defaultUser": {
		"secretReference": {"namespace": "rabbitmq", "name": "rabbitmq-default-user", "keys": {"username": "username", "password": "password"}},
		"serviceReference": {"namespace": "rabbitmq", "name": "rabbitmq"}}}}`
	if err := c.kubectl(ctx, "patch", "rabbitmqclusters.rabbitmq.com", "rabbitmq", "--namespace", "rabbitmq", "--subresource=status", "--type=merge", "--patch", status); err != nil {
		return err
	}
	if err := c.start(ctx, topologyOperator, nil, "env", "KUBECONFIG="+c.kubeconfig(), "OPERATOR_NAMESPACE=rabbitmq", "ENABLE_WEBHOOKS=false",
		c.bin(topologyOperator), "--metrics-bind-address", nodeAddress+":9782"); err != nil {
		return err
	}
	return c.awaitDeployments(ctx, "knative-eventing")
}
