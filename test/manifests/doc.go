// Package manifests tests the installation by `ko apply -f config/`, and the imports of packages.
package manifests
