// Package scheduling checks tolerations and affinities as the API server does
// (k8s.io/kubernetes/pkg/apis/core/validation, 1.34), whose own code is too much to link.
// test/conformance holds it to a real API server.
package scheduling
