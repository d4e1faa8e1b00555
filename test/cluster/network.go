package main

import (
	"context"
	"os"
)

// makeNetwork creates the network namespace with a pair of interfaces inside it. One has the node's address and
// the default route, so that addresses of pods and services lead to this node only.
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
		// The second setting needs the kernel's br_netfilter. Without it, kube-proxy still does everything that
		// this cluster needs.
		_, _ = c.inNetwork(ctx, "sysctl", "-qw", setting)
	}
	return nil
}
