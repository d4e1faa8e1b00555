// Command cluster measures Job Executor on the test cluster, against what the cluster itself can do: a
// bare loop that creates the same Jobs, and a Knative Service that does nothing; and against Knative's own
// JobSink. All of it is measured in one run, so that ratios hold on any machine.
package main
