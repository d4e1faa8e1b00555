// Package signature proves which function sent an event. Each function signs its events with its own key, and
// handles only events of functions that may send them. A client that can post to the Broker, or read from it,
// cannot act as a function, whatever the Broker's class. The format is CloudEvents' extension "Verifiable
// CloudEvents with DSSE" 0.1 with Ed25519 keys, and the extension "expirytime".
package signature
