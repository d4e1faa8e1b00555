// Package manifests holds the tests of what `ko apply -f config/` installs, and of
// which package may import which.
package manifests
