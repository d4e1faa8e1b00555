// Package redact prepares text of a task for Keptn, whose database and web page are read by
// more people than a Secret is: it cleans the text of terminal control sequences first, then
// redacts the values of the Secrets that the task's container got as environment variables.
// Whoever truncates the text does so afterwards.
package redact
