// Package commands tries every command of job-executor like a person: on sequences that pass, fail, hang, are retried and aborted. The
// embedded system and the cluster use the same golden files.
package commands
