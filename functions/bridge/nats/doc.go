// Package nats exchanges events with Keptn over its NATS JetStream: how to connect, receive and send.
package nats
