// Package excerpt truncates long text in the middle and says where the full text is.
package excerpt
