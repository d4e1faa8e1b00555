// Package reader reads YAML that people write: it goes on after a mistake, and tells all of
// them with their places in the file, in words that are not the parser's.
package reader
