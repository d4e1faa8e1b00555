// Package signature proves which function an event comes from: each function signs what it
// sends with a key of its own, and handles only what a function has signed that may send it.
// It is CloudEvents' extension "Verifiable CloudEvents with DSSE", version 0.1, with Ed25519
// keys, and with the extension "expirytime" for an end. So whoever may post to the Broker, or
// read in it, can say nothing in the name of a function, whatever the Broker's class is.
package signature
