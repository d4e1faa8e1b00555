package manifests

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

var testTime = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const functions = "github.com/job-executor/job-executor/functions/"

func golist(t *testing.T, arguments ...string) []string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "go", append([]string{"list"}, arguments...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(output)), "\n")
}

// cmd imports functions, a function imports jobconfig, keptn, run and function,
// and these import nothing of ours; so no function knows another.
func TestWhoMayImportWhom(t *testing.T) {
	library := []string{"function", "jobconfig", "keptn", "run"}
	packages := golist(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, functions+"...")
	if len(packages) < 10 {
		t.Fatalf("only %d packages were found", len(packages))
	}
	for _, line := range packages {
		fields := strings.Fields(line)
		importer := strings.TrimPrefix(fields[0], functions)
		for _, path := range fields[1:] {
			imported, ours := strings.CutPrefix(path, functions)
			switch {
			case !ours, strings.HasPrefix(importer, "cmd/"):
			case slices.Contains(library, importer):
				t.Errorf("%s imports %s, but may import nothing of ours", importer, imported)
			case !slices.Contains(library, imported):
				t.Errorf("%s imports %s, but no function knows another", importer, imported)
			}
		}
	}
}

// A function that starts from zero has to start fast: no informers, no discovery,
// no leader election, no whole clientset. (client-go's typed clients import its
// discovery package for types.)
func TestFunctionsThatStartFromZeroAreLight(t *testing.T) {
	heavy := []string{
		"k8s.io/client-go/kubernetes", "k8s.io/client-go/informers",
		"k8s.io/client-go/tools/cache", "k8s.io/client-go/tools/leaderelection",
		"github.com/nats-io/nats.go", "google.golang.org/grpc/server", "knative.dev/eventing/pkg/kncloudevents",
		"github.com/keptn/go-utils/pkg/lib/v0_2_0",
	}
	const most = 660
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
