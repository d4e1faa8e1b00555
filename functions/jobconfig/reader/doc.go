// Package reader parses handwritten YAML. It continues after a mistake and reports all mistakes with their
// positions, in plain words.
package reader
