// Command jes stands in for keptn-contrib/job-executor-service 0.3.0 in tests and benchmarks, because no image or module of it can be
// downloaded here. It uses the original's library for Keptn (go-utils' sdk) and does what the original does for Keptn and
// Kubernetes, but for the init container, and so is faster: it reads job/config.yaml twice, connects to Kubernetes for each event,
// creates a Job for each task, asks for it every 5 seconds, and sends its log.
package main
