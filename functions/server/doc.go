// Package server serves HTTP until it is to end, and then for as long as its address may still be
// known, and its requests take.
package server
