//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
)

// A release installs without Go and ko, replaces another one while tasks run, and is replaced by it. Each function
// of one release works among the functions of the other. A deleted release leaves nothing behind. The other release
// is the same code with another version, or the code at the commit PREVIOUS. PLATFORMS are those of the command
// line, such as linux/amd64,windows/arm64; compiling for another one takes minutes.
func TestReleases(t *testing.T) {
	installed := connect(t)
	reinstallAfter(t, installed)
	former, newer := t.TempDir(), t.TempDir()
	if commit := os.Getenv("PREVIOUS"); commit != "" {
		must(t, installed.ReleaseAt(t.Context(), commit, former, "v0.0.1-test"))
	} else {
		must(t, installed.Release(t.Context(), former, "v0.0.1-test"))
	}
	cosign, keys := os.Getenv("COSIGN"), t.TempDir()
	t.Setenv("COSIGN_PASSWORD", "for tests")
	must(t, installed.Run(t.Context(), fmt.Sprintf("cd %q\n%q generate-key-pair", keys, cosign)))
	platforms := cmp.Or(os.Getenv("PLATFORMS"), runtime.GOOS+"/"+runtime.GOARCH)
	must(t, installed.Release(t.Context(), newer, "v0.0.2-test", "--cosign", cosign, "--key", filepath.Join(keys, "cosign.key"), "--platforms", platforms))
	runsOn(t, newer, strings.Split(platforms, ","))
	namesEverythingByDigest(t, newer)
	isSigned(t, installed, cosign, filepath.Join(keys, "cosign.pub"), newer)
	must(t, installed.InstallRelease(t.Context(), former))
	has(t, installed, "v0.0.1-test")
	files := map[string]string{
		"job/config.yaml": "apiVersion: v2\nactions:\n- {name: Sleep, event: test.triggered, image: busybox, cmd: [sleep, '15']}\n",
	}
	for _, release := range []struct{ version, directory string }{{"v0.0.2-test", newer}, {"v0.0.1-test", former}} {
		t.Run("replaced by "+release.version, func(t *testing.T) {
			const count = 20
			contexts := map[string]string{} // by project: Keptn runs the sequences of a service one after the other
			for range count {
				project, keptnContext := begin(t, installed, []string{"test"}, files)
				contexts[project] = keptnContext
			}
			must(t, installed.InstallRelease(t.Context(), release.directory))
			for project, keptnContext := range contexts {
				succeeds(t, installed, project, keptnContext)
			}
			has(t, installed, release.version)
		})
	}
	functions := []struct{ kind, name string }{{"Deployment", "bridge"}, {"Deployment", "jobsource"}, {"Service", "executor-test"}, {"Service", "watcher"}}
	for _, skew := range []struct{ which, one, others string }{{"newer", newer, former}, {"older", former, newer}} {
		must(t, installed.InstallRelease(t.Context(), skew.others))
		for _, function := range functions {
			t.Run(function.name+" is "+skew.which+" than the others", func(t *testing.T) {
				must(t, installed.InstallObject(t.Context(), skew.one, function.kind, function.name))
				for range 3 {
					project, keptnContext := begin(t, installed, []string{"test"}, files)
					succeeds(t, installed, project, keptnContext)
				}
				must(t, installed.InstallObject(t.Context(), skew.others, function.kind, function.name))
			})
		}
	}
	must(t, installed.Uninstall(t.Context(), former))
	for _, what := range [][]string{{"namespaces", system.Namespace, "job-executor-jobs"}, {"clusterroles,clusterrolebindings", "job-executor-bridge"}} {
		if left, err := installed.Kubectl(t.Context(), append([]string{"get", "--ignore-not-found", "--output=name"}, what...)...); err != nil || left != "" {
			t.Errorf("%v: %v, %s", what, err, left)
		}
	}
	awaitUnregistered(t, installed)
}

// isSigned checks the signatures of a release as config/README.md says, and that a changed file is noticed.
func isSigned(t *testing.T, installed *system.Installation, cosign, key, directory string) {
	t.Helper()
	verify := func(commands string) error {
		return installed.Run(t.Context(), fmt.Sprintf("cosign() { %q \"$@\"; }\nkey=%q\ncd %q\n%s", cosign, key, directory, commands))
	}
	const blob = "cosign verify-blob --key $key --insecure-ignore-tlog --bundle checksums.txt.bundle checksums.txt"
	must(t, verify(blob+`
sha256sum --check --strict checksums.txt
for image in $(grep -o '[^ "]*@sha256:[0-9a-f]*' job-executor.yaml | sort --unique); do
  cosign verify --key $key --insecure-ignore-tlog $image
  cosign verify-attestation --key $key --insecure-ignore-tlog --type slsaprovenance1 $image
done`))
	must(t, verify("cp checksums.txt whole.txt; echo changed >> checksums.txt"))
	if verify(blob) == nil {
		t.Error("changed checksums are still signed")
	}
	must(t, verify("mv whole.txt checksums.txt"))
}

// has waits until the first line of the bridge's log names a version.
func has(t *testing.T, installed *system.Installation, version string) {
	t.Helper()
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		log, err := installed.Kubectl(ctx, "logs", "--namespace", system.Namespace, "deployment/bridge")
		if err != nil {
			return err
		}
		if first, _, _ := strings.Cut(log, "\n"); !strings.Contains(first, `"msg":"starting"`) || !strings.Contains(first, fmt.Sprintf(`"version":%q`, version)) {
			return fmt.Errorf("the first line is %s", first)
		}
		return nil
	}))
}

// runsOn checks for which platforms the command line was built, and that each program has an SBOM.
func runsOn(t *testing.T, directory string, platforms []string) {
	t.Helper()
	for _, platform := range platforms {
		goos, processor, _ := strings.Cut(platform, "/")
		programs, err := filepath.Glob(filepath.Join(directory, "job-executor-"+goos+"-"+processor+"*"))
		must(t, err)
		compare(t, "programs for "+platform, 1, len(programs))
		program, err := buildinfo.ReadFile(programs[0])
		must(t, err)
		built := map[string]string{}
		for _, setting := range program.Settings {
			built[setting.Key] = setting.Value
		}
		compare(t, filepath.Base(programs[0]), platform, built["GOOS"]+"/"+built["GOARCH"])
		_, err = os.Stat(filepath.Join(directory, "sboms", filepath.Base(programs[0])+".spdx.json"))
		must(t, err)
	}
}

// namesEverythingByDigest checks that a release names its images, their contents and their base images by digest.
func namesEverythingByDigest(t *testing.T, directory string) {
	t.Helper()
	manifests, err := filepath.Glob(filepath.Join(directory, "*.yaml"))
	must(t, err)
	for _, name := range manifests {
		content, err := os.ReadFile(name)
		must(t, err)
		for _, line := range strings.Split(string(content), "\n") {
			isImage := strings.Contains(line, "image: ")
			if strings.Contains(line, "ko://") || isImage && !strings.Contains(line, "@sha256:") {
				t.Errorf("%s: not by its digest: %s", name, line)
			}
		}
	}
	sboms, err := filepath.Glob(filepath.Join(directory, "sboms", "*"))
	must(t, err)
	images := 0
	for _, name := range sboms {
		content, err := os.ReadFile(name)
		must(t, err)
		contains(t, string(content), "github.com/cloudevents/sdk-go/v2")
		if !strings.HasPrefix(filepath.Base(name), "job-executor-") {
			images++
			contains(t, string(content), "base@sha256:")
		}
	}
	compare(t, "SBOMs of images", 5, images)
}
