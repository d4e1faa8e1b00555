// Package manifests tests what `ko apply -f config/` installs, and the imports of packages.
package manifests
