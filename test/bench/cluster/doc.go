// Command cluster measures Job Executor on the test cluster next to a bare loop that creates the same Jobs, an
// empty Knative Service, and Knative's own JobSink. Everything is measured in one run, so that the ratios hold
// on any machine.
package main
