// Package clientset adapts client-go's clientset to cluster.Client, for the bridge (leader election) and for
// tests (fake clientset).
package clientset
