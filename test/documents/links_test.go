package documents

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
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
// Jaeger finds nothing for a misspelled attribute.
func TestSearchesForTracesUseAttributesOfSpans(t *testing.T) {
	var content string
	for _, name := range []string{"config/tracing/README.md", "config/monitoring/dashboard.yaml"} {
		file, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		content += strings.NewReplacer("%7B", "{", "%7D", "}", "%22", `"`, "%3A", ":").Replace(string(file))
	}
	emitted, err := os.ReadFile(filepath.Join(root, "test/traces/attributes.txt"))
	if err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile(`/search\?service=(job-executor-[a-z]+)&tags=(\{[^}]*\})`).FindAllStringSubmatch(content, -1)
	if len(links) < 5 {
		t.Fatalf("only %d searches were found", len(links))
	}
	for _, link := range links {
		var tags map[string]string
		if err := json.Unmarshal([]byte(link[2]), &tags); err != nil || len(tags) != 1 {
			t.Errorf("%s: %v", link[2], err)
		}
		for key := range tags {
			if !regexp.MustCompile(`[ \n]` + regexp.QuoteMeta(key) + `[ \n]`).Match(emitted) {
				t.Errorf("%s: no span has the attribute %s", link[0], key)
			}
		}
	}
}

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

// The first page requires the minor versions that the tests use.
func TestRequiredVersionsAreTested(t *testing.T) {
	readme := documents(t)["README.md"]
	for _, required := range []struct {
		name, file        string
		tested, mentioned *regexp.Regexp
		// ahead is the difference between the tested number and the mentioned one.
		ahead int
	}{
		{"Go", "go.mod", regexp.MustCompile(`(?m)^go 1\.(\d+)`), regexp.MustCompile(`Go 1\.(\d+)`), 0},
		{"ko", "test/cluster/build.go", regexp.MustCompile(`koVersion += "v0\.(\d+)`), regexp.MustCompile(`ko\.build\) 0\.(\d+)`), 0},
		// Knative 1.21 has the modules of version 0.48.
		{"Knative", "go.mod", regexp.MustCompile(`knative\.dev/serving v0\.(\d+)`), regexp.MustCompile(`install/\) 1\.(\d+)`), 27},
	} {
		content, err := os.ReadFile(filepath.Join(root, required.file))
		if err != nil {
			t.Fatal(err)
		}
		tested, mentioned := minor(t, required.tested, string(content)), minor(t, required.mentioned, readme)
		if mentioned != tested-required.ahead {
			t.Errorf("%s: README.md requires minor version %d, and the tests use %d", required.name, mentioned, tested-required.ahead)
		}
	}
}

// minor returns the number in the first match of a pattern.
func minor(t *testing.T, pattern *regexp.Regexp, content string) int {
	t.Helper()
	found := pattern.FindStringSubmatch(content)
	if found == nil {
		t.Fatalf("no version matches %s", pattern)
	}
	number, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return number
}
