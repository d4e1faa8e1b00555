package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spdx/tools-golang/json"
)

// A release without its images, which need a registry: see TestReleases for those.
func TestReleaseWithoutImages(t *testing.T) {
	t.Chdir("../..")
	r := release{version: "v1.2.3", directory: t.TempDir(), platforms: []string{runtime.GOOS + "/" + runtime.GOARCH}}
	program := "job-executor-" + runtime.GOOS + "-" + runtime.GOARCH
	if err := os.Mkdir(r.path("sboms"), 0o755); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("config/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var manifests []byte
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		manifests = append(append(manifests, "---\n"...), content...)
	}
	if err := r.write(manifest, bytes.ReplaceAll(manifests, []byte("ko://github.com/job-executor/job-executor/functions/cmd/"),
		[]byte("registry.example.com/"))); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{r.overlays(t.Context()), r.programs(t.Context()), r.checksums(t.Context())} {
		if err != nil {
			t.Fatal(err)
		}
	}
	output, err := exec.CommandContext(t.Context(), r.path(program), "--version").CombinedOutput()
	if err != nil || string(output) != "job-executor version v1.2.3\n" {
		t.Errorf("%v, %s", err, output)
	}
	checkSums(t, r)
	content, err := os.ReadFile(r.path("job-executor-high-availability.yaml"))
	if err != nil || !bytes.Contains(content, []byte("replicas: 2")) || !bytes.Contains(content, []byte("registry.example.com/fetcher")) {
		t.Errorf("%v, %.300s", err, content)
	}
	sbom, err := os.ReadFile(r.path("sboms/" + program + ".spdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	document, err := json.Read(bytes.NewReader(sbom))
	if err != nil {
		t.Fatal(err)
	}
	var packages []string
	for _, found := range document.Packages {
		packages = append(packages, found.PackageName)
	}
	for _, name := range []string{module, "github.com/spf13/cobra", "k8s.io/client-go"} {
		if !slices.Contains(packages, name) {
			t.Errorf("the SBOM lacks %s: %v", name, packages)
		}
	}
}

// checkSums compares the sums with the files, of which none is missing.
func checkSums(t *testing.T, r release) {
	t.Helper()
	sums, err := os.ReadFile(r.path("checksums.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, pattern := range []string{"*", "sboms/*"} {
		names, err := filepath.Glob(r.path(pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			relative, _ := filepath.Rel(r.directory, name)
			content, err := os.ReadFile(name)
			if err == nil && relative != "checksums.txt" {
				want = append(want, fmt.Sprintf("%x  %s", sha256.Sum256(content), relative))
			}
		}
	}
	got := strings.Split(strings.TrimSpace(string(sums)), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

func TestVersionThatIsNone(t *testing.T) {
	for _, version := range []string{"", "v1 2", "v1;rm", "-x"} {
		if err := (release{version: version, directory: t.TempDir()}).build(t.Context()); err == nil {
			t.Errorf("%q is accepted", version)
		}
	}
}

func TestNotesListTheCommitsSinceTheLastTag(t *testing.T) {
	t.Chdir(t.TempDir())
	r := release{version: "v1.2.3", directory: "."}
	const author = "user.name=Test -c user.email=test@example.com"
	for _, arguments := range []string{
		"init --quiet", "commit --quiet --allow-empty --message=First", "tag v1.2.2", "commit --quiet --allow-empty --message=Second", "tag v1.2.3",
	} {
		command := append(strings.Fields("-c "+author), strings.Fields(arguments)...)
		if output, err := exec.CommandContext(t.Context(), "git", command...).CombinedOutput(); err != nil {
			t.Fatalf("%v, %s", err, output)
		}
	}
	if err := r.notes(t.Context()); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile("NOTES.md")
	if err != nil || string(content) != "# Job Executor v1.2.3\n\n* Second\n" {
		t.Errorf("%v, %q", err, content)
	}
}
