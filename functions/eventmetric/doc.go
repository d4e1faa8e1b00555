// Package eventmetric counts events: what is received, sent, sent once more, or was in vain.
package eventmetric
