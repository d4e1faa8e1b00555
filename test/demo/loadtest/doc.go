// Package loadtest is a small load generator that reads locust's configuration file, for machines without
// locust. It makes the requests of the demo's example.
package loadtest
