// Package bench measures the functions' memory under the limits of config/, their own work, and its growth.
// Each function runs in a process of its own, with the GOMEMLIMIT of its manifest, and talks to a Kubernetes
// and a Keptn that generate their answers.
package bench
