// Package redact prepares a task's text for Keptn, whose database and web page more people can read than a
// Secret. It first removes terminal control sequences and then redacts the values of the task's Secrets.
// Truncate the result, not the input.
package redact
