// Package lint is the command line tool for authors of a job/config.yaml. It reports all mistakes with their
// positions, and shows without a cluster which Jobs an event creates.
package lint
