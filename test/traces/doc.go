// Package traces asks a system the questions that a trace must answer, and compares whole trees with the expected
// ones. Both the embedded system and the cluster must pass.
package traces
