// Package variables reads the variables that a function is configured by: its environment, and
// files for what is secret.
package variables
