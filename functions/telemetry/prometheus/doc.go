// Package prometheus exposes /metrics. Only long-running functions import it: functions that scale to zero
// cannot be scraped, and must start fast.
package prometheus
