// Package timeline derives the phases of an ended Job from Kubernetes' timestamps, because Kubernetes itself
// writes no spans.
package timeline
