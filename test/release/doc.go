// Command release builds a release into a directory, and its images into KO_DOCKER_REPO: see make release.
package main
