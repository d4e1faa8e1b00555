// Package executor answers a Keptn triggered event by creating the Jobs that
// job/config.yaml wants for it. Data goes one way: the event, the parsed
// configuration, the plan (Jobs as plain values), and at the end the effect.
package executor
