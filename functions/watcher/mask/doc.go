// Package mask hides the values of Secrets that a task has as variables in what is sent to
// Keptn, whose database and web page are for more people than the Secrets are.
package mask
