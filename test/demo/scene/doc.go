// Package scene has the project that a demo shows, with the options that replace it.
package scene
