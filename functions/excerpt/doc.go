// Package excerpt keeps of a text that is too long its beginning and its end, and says where all of it
// can be read.
package excerpt
