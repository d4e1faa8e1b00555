// Package allowlist compares images and other names with the patterns that an installation allows.
package allowlist
