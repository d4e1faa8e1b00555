// Package plan renders the Jobs of a run from the actions that match an event, within the installation's rules.
package plan
