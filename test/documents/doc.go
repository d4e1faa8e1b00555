// Package documents checks the README files: their links, their commands, and that TROUBLESHOOTING.md explains
// every message of the product.
package documents
