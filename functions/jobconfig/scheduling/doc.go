// Package scheduling validates tolerations and affinities like the API server
// (k8s.io/kubernetes/pkg/apis/core/validation, 1.34), whose code is too large to link. test/conformance
// compares it with a real API server.
package scheduling
