// Package manifests tests the installation by `ko apply -f config/`, and the imports of packages. It builds overlays
// for the tests and for releases.
package manifests
