// Package prometheus serves a function's metrics to Prometheus. It is of those functions only
// that always run: one that starts from zero would be asked in vain, and has to be light.
package prometheus
