// Package keptn is a Keptn v1 control plane for tests: a real NATS JetStream, a real Git repository per
// project, shipyard sequences, and the event, uniform, log and resource APIs as far as an integration uses
// them. A test replays recordings of Keptn 1.4.5 against it.
package keptn
