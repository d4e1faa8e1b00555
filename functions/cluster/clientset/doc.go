// Package clientset makes a cluster.Client of client-go's whole clientset, for who has that anyway: the
// bridge, whose election needs it, and tests, which have client-go's fake.
package clientset
