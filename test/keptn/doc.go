// Package keptn is a Keptn v1 control plane for tests: a real NATS JetStream, a
// real Git repository for each project, shipyard sequences, and the event,
// uniform, log and resource APIs as far as an integration uses them. It behaves
// as recordings of a Keptn 1.4.5 do; a test replays them against it.
package keptn
