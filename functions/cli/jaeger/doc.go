// Package jaeger reads traces from Jaeger's query API, and draws them for a terminal.
package jaeger
