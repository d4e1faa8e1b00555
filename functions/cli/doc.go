// Package cli is the job-executor command: for people who write job/config.yaml, and for those who look after runs.
// Each command has a file. It reads the Jobs' namespace with the caller's rights, and Keptn with the caller's token.
package cli
