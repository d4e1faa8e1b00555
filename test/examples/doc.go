// Package examples has configurations that people start from, and holds them, and a corpus
// of valid and invalid ones, against the parser, the JSON Schema for editors and the linter.
package examples
