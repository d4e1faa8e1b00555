package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// broker decides where Brokers without a configuration of their own keep their events. NATS JetStream is configured as
// in config/overlays/natss. RabbitMQ is only installed: its overlay has Brokers of its class. A Broker cannot change its channel or
// class, and a SinkBinding does not notice a new Broker of the same name, so all of them are deleted.
func (c *cluster) broker(ctx context.Context, class string) error {
	const key = "channel-template-spec"
	kubectl := func(verb string, arguments ...string) ([]byte, error) {
		return c.inNetwork(ctx, append([]string{c.bin("kubectl"), verb}, arguments...)...)
	}
	channel := []byte("apiVersion: messaging.knative.dev/v1\nkind: InMemoryChannel\n")
	var err error
	switch class {
	case "in-memory":
	case "natss":
		path := filepath.Join(c.repository, "config", "overlays", "natss", "broker.yaml")
		channel, err = kubectl("create", "--dry-run=client", "--filename", path, "--output", "jsonpath={.data."+key+"}")
	case "rabbitmq":
		if err = c.make(ctx, c.rabbitArtifacts()); err == nil {
			err = c.selfInNetwork(ctx, "up-rabbitmq")
		}
	default:
		err = fmt.Errorf("there are no Brokers of class %q, only in-memory, natss and rabbitmq", class)
	}
	if err != nil {
		return err
	}
	before, err := os.ReadFile(c.file("broker"))
	if errors.Is(err, fs.ErrNotExist) {
		before = []byte("in-memory")
	} else if err != nil {
		return fmt.Errorf("read the class of Brokers: %w", err)
	}
	if string(before) == class {
		return nil
	}
	change, err := json.Marshal(map[string]any{"data": map[string]string{key: string(channel)}})
	if err != nil {
		return fmt.Errorf("encode the configuration of Brokers: %w", err)
	}
	if _, err := kubectl("patch", "configmap", "config-br-default-channel", "--namespace", "knative-eventing", "--type", "merge", "--patch", string(change)); err != nil {
		return err
	}
	if _, err := kubectl("delete", "brokers,triggers,sinkbindings", "--all-namespaces", "--all"); err != nil {
		return err
	}
	if _, err := kubectl("wait", "--for=delete", "--timeout=60s", "inmemorychannels,natsjetstreamchannels", "--all-namespaces", "--all"); err != nil {
		return err
	}
	if string(before) == "rabbitmq" { // the small node needs its room; the webhook stays, since it is asked about every Broker
		if _, err := kubectl("scale", "deployment", "rabbitmq-broker-controller", "--namespace", "knative-eventing", "--replicas=0"); err != nil {
			return err
		}
	}
	if err := os.WriteFile(c.file("broker"), []byte(class), 0o600); err != nil {
		return fmt.Errorf("record the class of Brokers: %w", err)
	}
	fmt.Printf("New Brokers are of class %s.\n", class)
	return nil
}
