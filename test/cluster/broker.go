package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// channelKey is the key of the channel in the configuration of a Broker.
const channelKey = "channel-template-spec"

// broker decides where Brokers without a configuration of their own keep their events. NATS JetStream is configured as
// in config/overlays/natss. A Broker cannot change its channel, so all are deleted, and
// SinkBindings, too, which do not notice a new Broker of the same name.
func (c *cluster) broker(ctx context.Context, class string) error {
	channel := "apiVersion: messaging.knative.dev/v1\nkind: InMemoryChannel\n"
	switch class {
	case "in-memory":
	case "natss":
		content, err := os.ReadFile(filepath.Join(c.repository, "config", "overlays", "natss", "broker.yaml"))
		if err != nil {
			return fmt.Errorf("read the configuration of the Broker: %w", err)
		}
		_, indented, found := strings.Cut(string(content), channelKey+": |\n")
		if !found {
			return errors.New("the configuration of the Broker has no " + channelKey)
		}
		const indentation = "    "
		channel = strings.ReplaceAll("\n"+indented, "\n"+indentation, "\n")[1:]
	default:
		return fmt.Errorf("there are no Brokers of class %q, only in-memory and natss", class)
	}
	const name, eventing = "config-br-default-channel", "knative-eventing"
	before, err := c.kubectlOutput(ctx, "get", "configmap", name, "--namespace", eventing, "--output", "jsonpath={.data."+channelKey+"}")
	if err != nil {
		return err
	}
	if strings.TrimSpace(before) == strings.TrimSpace(channel) {
		return nil
	}
	path := c.file("channel")
	if err := os.WriteFile(path, []byte(channel), 0o600); err != nil {
		return fmt.Errorf("write the configuration of Brokers: %w", err)
	}
	made, err := c.kubectlOutput(ctx, "create", "configmap", name, "--namespace", eventing, "--from-file", channelKey+"="+path, "--dry-run=client", "--output", "yaml")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".yaml", []byte(made), 0o600); err != nil {
		return fmt.Errorf("write the configuration of Brokers: %w", err)
	}
	for _, arguments := range [][]string{
		{"apply", "--server-side", "--force-conflicts", "--filename", path + ".yaml"},
		{"delete", "brokers,triggers,sinkbindings", "--all-namespaces", "--all"},
		{"wait", "--for=delete", "--timeout=60s", "inmemorychannels,natsjetstreamchannels", "--all-namespaces", "--all"},
	} {
		if _, err := c.kubectlOutput(ctx, arguments...); err != nil {
			return err
		}
	}
	fmt.Printf("Brokers keep their events %s.\n", map[string]string{"in-memory": "in memory", "natss": "in NATS JetStream"}[class])
	return nil
}

// kubectlOutput runs kubectl in the cluster's network.
func (c *cluster) kubectlOutput(ctx context.Context, arguments ...string) (string, error) {
	content, err := c.output(ctx, c.repository, c.environment(),
		append([]string{"nsenter", "--net=/run/netns/" + namespace, c.bin("kubectl")}, arguments...)...)
	return string(content), err
}
