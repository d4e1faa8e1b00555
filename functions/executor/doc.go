// Package executor answers a triggered event by creating the Jobs that job/config.yaml defines for it. Data
// flows one way: the event, the parsed configuration, the plan (Jobs as plain values), and finally the Jobs.
package executor
