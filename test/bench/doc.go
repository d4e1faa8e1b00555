// Package bench measures what the functions need: here that the memory that config/ allows
// them is enough for much at once. Each function runs in a process of its own, with the
// GOMEMLIMIT and against the limit of its manifest, and talks to a Kubernetes and a Keptn
// that make up their answers while they are read. And it measures what tracing costs a task,
// what the functions' own work costs, and how that grows.
package bench
