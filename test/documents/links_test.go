package documents

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documents returns the content of all Markdown files by their paths from the root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		content, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path)
		found[filepath.ToSlash(name)] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	// notInAnchors are the characters that GitHub removes from a heading for its anchor.
	notInAnchors = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

func anchorsOf(content string) map[string]bool {
	anchors := map[string]bool{}
	for _, found := range heading.FindAllStringSubmatch(content, -1) {
		anchors[strings.ReplaceAll(notInAnchors.ReplaceAllString(strings.ToLower(found[1]), ""), " ", "-")] = true
	}
	return anchors
}

func TestLinksLeadSomewhere(t *testing.T) {
	all := documents(t)
	links := 0
	for name, content := range all {
		for _, found := range link.FindAllStringSubmatch(content, -1) {
			links++
			target, anchor, hasAnchor := strings.Cut(found[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := name
			if target != "" {
				path = filepath.ToSlash(filepath.Join(filepath.Dir(name), target))
			}
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s: link %s: %v", name, found[1], err)
			} else if hasAnchor && !anchorsOf(all[path])[anchor] {
				t.Errorf("%s: link %s: %s has no such heading", name, found[1], path)
			}
		}
	}
	const least = 30
	if links < least {
		t.Errorf("only %d links were found", links)
	}
}

// A user reads the first page before anything else.
func TestFirstPageIsShort(t *testing.T) {
	const most = 180
	if lines := strings.Count(documents(t)["README.md"], "\n"); lines > most {
		t.Errorf("README.md has %d lines, more than %d", lines, most)
	}
}

// A document that no other one links cannot be found.
func TestEveryDocumentIsLinkedFromTheFirstPage(t *testing.T) {
	all := documents(t)
	for name := range all {
		isLinked := strings.Contains(all["README.md"], "]("+name+")") || strings.Contains(all["config/README.md"], "]("+strings.TrimPrefix(name, "config/")+")")
		if name != "README.md" && !isLinked {
			t.Errorf("%s is linked neither from README.md nor from config/README.md", name)
		}
	}
}

// The first page requires the versions that the tests use.
func TestRequiredVersionsAreTested(t *testing.T) {
	readme := documents(t)["README.md"]
	for _, required := range []struct {
		name, file        string
		tested, mentioned *regexp.Regexp
	}{
		{"Go", "go.mod", regexp.MustCompile(`(?m)^go (\d+\.\d+)`), regexp.MustCompile(`Go (\d+\.\d+)`)},
		{"ko", "test/cluster/build.go", regexp.MustCompile(`koVersion += "v(\d+\.\d+)`), regexp.MustCompile(`ko\.build\) (\d+\.\d+)`)},
		// Knative 1.21 has the modules of version 0.48.
		{"Knative", "go.mod", regexp.MustCompile(`knative\.dev/serving v0\.(48)\.`), regexp.MustCompile(`install/\) 1\.(21)`)},
	} {
		content, err := os.ReadFile(filepath.Join(root, required.file))
		if err != nil {
			t.Fatal(err)
		}
		tested, mentioned := required.tested.FindSubmatch(content), required.mentioned.FindStringSubmatch(readme)
		if tested == nil || mentioned == nil {
			t.Errorf("%s: no version in %s, or none in README.md", required.name, required.file)
		} else if required.name != "Knative" && string(tested[1]) != mentioned[1] {
			t.Errorf("%s: README.md requires %s, and the tests use %s", required.name, mentioned[1], tested[1])
		}
	}
}
