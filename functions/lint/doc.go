// Package lint is the command line tool for whoever writes a job/config.yaml: it tells all
// mistakes with their places, and shows without a cluster which Jobs an event would make.
package lint
