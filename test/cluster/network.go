package main

import (
	"context"
	"os"
)

// makeNetwork makes the network namespace: a pair of interfaces, both inside it,
// the node's address on one of them and the default route to it. Addresses of
// pods and services so lead nowhere but to this node.
func (c *cluster) makeNetwork(ctx context.Context) error {
	if _, err := os.Stat("/run/netns/" + namespace); err != nil {
		if err := c.quiet(ctx, "/", "ip", "netns", "add", namespace); err != nil {
			return err
		}
	}
	if c.quiet(ctx, "/", "ip", "-n", namespace, "link", "show", "node0") == nil {
		return nil
	}
	for _, arguments := range [][]string{
		{"ip", "-n", namespace, "link", "set", "lo", "up"},
		{"ip", "-n", namespace, "link", "add", "node0", "type", "veth", "peer", "name", "node0-peer"},
		{"ip", "-n", namespace, "address", "add", nodeAddress + "/24", "dev", "node0"},
		{"ip", "-n", namespace, "link", "set", "node0", "up"},
		{"ip", "-n", namespace, "link", "set", "node0-peer", "up"},
		{"ip", "-n", namespace, "route", "add", "default", "dev", "node0"},
	} {
		if err := c.quiet(ctx, "/", arguments...); err != nil {
			return err
		}
	}
	for _, setting := range []string{"net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"} {
		// The second one is missing where the kernel has no br_netfilter; kube-proxy
		// then works all the same for what this cluster does.
		_ = c.inNetwork(ctx, "sysctl", "-qw", setting)
	}
	return nil
}
