// Package expression evaluates the regular expressions and JSONPaths of a job/config.yaml. It bounds each
// before compiling it.
package expression
