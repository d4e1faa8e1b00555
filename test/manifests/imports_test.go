package manifests

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const functions = "github.com/job-executor/job-executor/functions/"

func golist(t *testing.T, arguments ...string) []string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "go", append([]string{"list"}, arguments...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(output)), "\n")
}

// A function imports libraries and its own packages, so no function knows another. A library imports the
// libraries below it. The bridge's packages do not know each other, except for a few.
func TestWhoMayImportWhom(t *testing.T) {
	libraries := map[string][]string{
		"keptn": nil, "keptn/api": {"function", "keptn"},
		"cluster": nil, "cluster/clientset": {"cluster"}, "run": nil, "run/store": {"cluster", "run"},
		"telemetry": {"keptn"}, "function": {"telemetry"}, "telemetry/prometheus": {"function", "telemetry"},
		"protocol": {"keptn", "run"}, "election": {"function"}, "signature": {"cluster", "function", "keptn", "protocol", "telemetry"},
		"jobconfig": nil, "allowlist": nil, "excerpt": nil, "files": nil, "podsecurity": nil,
		// The linter plans like the executor, but is no function.
		"lint": {"executor", "executor/plan", "files", "function", "jobconfig", "keptn", "podsecurity", "protocol", "run"},
		// The command reads runs like the watcher, and Keptn with the caller's token.
		"cli": {
			"cli/jaeger", "cli/migrate", "cluster/clientset", "jobconfig", "keptn", "keptn/api", "lint", "protocol", "run", "run/store", "telemetry", "watcher",
		},
		"cli/jaeger": nil, "cli/migrate": {"jobconfig"},
	}
	shared := []string{"bridge/intake", "bridge/memory", "bridge/report"}
	mayImport := func(importer, imported string) bool {
		if allowed, ok := libraries[importer]; ok {
			return slices.Contains(allowed, imported)
		}
		owner, _, isRoom := strings.Cut(importer, "/")
		_, isLibrary := libraries[imported]
		switch {
		case imported == "keptn/api": // with Keptn's secrets
			return owner == "bridge"
		case owner == "cmd", isLibrary, owner == "bridge" && slices.Contains(shared, imported):
			return true
		default:
			return !isRoom && strings.HasPrefix(imported, owner+"/")
		}
	}
	packages := golist(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, functions+"...")
	if len(packages) < 15 {
		t.Fatalf("only %d packages were found", len(packages))
	}
	for _, line := range packages {
		fields := strings.Fields(line)
		importer := strings.TrimPrefix(fields[0], functions)
		for _, path := range fields[1:] {
			if imported, ours := strings.CutPrefix(path, functions); ours && !mayImport(importer, imported) {
				t.Errorf("%s may not import %s", importer, imported)
			}
		}
	}
}

// A function that scales from zero must start fast: no informers, no discovery, no leader election, no
// client-go clients, which link the types of all APIs, and no client of Keptn's API.
func TestFunctionsThatStartFromZeroAreLight(t *testing.T) {
	heavy := []string{
		"k8s.io/client-go/kubernetes", "k8s.io/client-go/kubernetes/scheme", "k8s.io/client-go/informers", "k8s.io/client-go/discovery", "k8s.io/client-go/gentype",
		"k8s.io/client-go/tools/cache", "k8s.io/client-go/tools/leaderelection",
		"github.com/nats-io/nats.go", "google.golang.org/grpc/server", "knative.dev/eventing/pkg/kncloudevents",
		"github.com/keptn/go-utils/pkg/lib/v0_2_0", "golang.org/x/oauth2/clientcredentials", "github.com/hashicorp/golang-lru/v2",
	}
	const most = 565
	for _, name := range []string{"executor", "watcher", "fetcher"} {
		dependencies := golist(t, "-deps", functions+"cmd/"+name)
		if len(dependencies) > most {
			t.Errorf("%s has %d dependencies, more than %d", name, len(dependencies), most)
		}
		t.Logf("%s has %d dependencies", name, len(dependencies))
		for _, path := range heavy {
			if slices.Contains(dependencies, path) {
				t.Errorf("%s depends on %s", name, path)
			}
		}
	}
}

// If any code calls methods by a dynamic name, the linker keeps all methods of all types, which makes images a
// fifth to a half larger.
func TestLinkerLeavesOutMethodsThatNobodyCalls(t *testing.T) {
	content, err := os.ReadFile("../../.ko.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var built struct {
		Builds []struct {
			ID, Main string
			Flags    []string
		}
	}
	if err := yaml.Unmarshal(content, &built); err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, program := range built.Builds {
		names = append(names, program.ID)
		t.Run(program.ID, func(t *testing.T) {
			// As ko does, so that nothing is compiled twice.
			arguments := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-dumpdep", "-o", os.DevNull}, program.Flags...)
			command := exec.CommandContext(t.Context(), "go", append(arguments, "./"+program.Main)...)
			command.Dir = "../.."
			command.Env = append(os.Environ(), "CGO_ENABLED=0")
			dump, err := command.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, dump[max(0, len(dump)-1000):])
			}
			if !bytes.Contains(dump, []byte("-> main.main")) {
				t.Fatal("the linker has not told what it keeps")
			}
			for line := range bytes.Lines(dump) {
				if bytes.Contains(line, []byte("<ReflectMethod> -> ")) {
					t.Fatalf("methods are called by any name, of which the first is told: %s", line)
				}
			}
		})
	}
	if diff := cmp.Diff([]string{"bridge", "executor", "fetcher", "jobsource", "watcher"}, names); diff != "" {
		t.Errorf("programs whose flags are told (-want +got):\n%s", diff)
	}
}

// Each requirement has a reason, and functions do not depend on test modules.
func TestEveryDependencyHasAReason(t *testing.T) {
	content, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	inFunctions := golist(t, "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", functions+"...")
	direct := 0
	for _, row := range regexp.MustCompile(`(?m)^\t(\S+) v\S+(?: // (.*))?$`).FindAllStringSubmatch(string(content), -1) {
		path, reason := row[1], row[2]
		if reason == "indirect" {
			continue
		}
		direct++
		if reason == "" {
			t.Errorf("%s has no reason", path)
		}
		if strings.HasPrefix(reason, "tests: ") == slices.Contains(inFunctions, path) {
			t.Errorf("%s is said to be for %q, but functions have it: %t", path, reason, slices.Contains(inFunctions, path))
		}
	}
	if direct < 30 {
		t.Errorf("only %d were found", direct)
	}
}
