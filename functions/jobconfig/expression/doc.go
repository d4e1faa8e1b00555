// Package expression evaluates the regular expressions and JSONPaths of a job/config.yaml,
// each bounded before it is compiled.
package expression
