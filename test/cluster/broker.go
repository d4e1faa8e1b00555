package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
)

// broker decides where Brokers without a configuration of their own keep their events. NATS JetStream is configured as
// in config/overlays/natss. A Broker cannot change its channel, and a SinkBinding does not notice a new Broker of the
// same name, so all of them are deleted.
func (c *cluster) broker(ctx context.Context, class string) error {
	const key = "channel-template-spec"
	const read = "jsonpath={.data." + key + "}"
	kubectl := func(verb string, arguments ...string) ([]byte, error) {
		return c.inNetwork(ctx, append([]string{c.bin("kubectl"), verb}, arguments...)...)
	}
	var channel []byte
	var err error
	switch class {
	case "in-memory":
		channel = []byte("apiVersion: messaging.knative.dev/v1\nkind: InMemoryChannel\n")
	case "natss":
		path := filepath.Join(c.repository, "config", "overlays", "natss", "broker.yaml")
		channel, err = kubectl("create", "--dry-run=client", "--filename", path, "--output", read)
	default:
		return fmt.Errorf("there are no Brokers of class %q, only in-memory and natss", class)
	}
	if err != nil {
		return err
	}
	settings := []string{"configmap", "config-br-default-channel", "--namespace", "knative-eventing"}
	before, err := kubectl("get", append(settings, "--output", read)...)
	if err != nil || string(before) == string(channel) {
		return err
	}
	change, err := json.Marshal(map[string]any{"data": map[string]string{key: string(channel)}})
	if err != nil {
		return fmt.Errorf("encode the configuration of Brokers: %w", err)
	}
	if _, err := kubectl("patch", append(settings, "--type", "merge", "--patch", string(change))...); err != nil {
		return err
	}
	if _, err := kubectl("delete", "brokers,triggers,sinkbindings", "--all-namespaces", "--all"); err != nil {
		return err
	}
	if _, err := kubectl("wait", "--for=delete", "--timeout=60s", "inmemorychannels,natsjetstreamchannels", "--all-namespaces", "--all"); err != nil {
		return err
	}
	fmt.Printf("New Brokers are of class %s.\n", class)
	return nil
}
