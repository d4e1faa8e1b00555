// Package allowlist compares names with the patterns that an installation allows: of images in
// full, and of anything else as they stand.
package allowlist
