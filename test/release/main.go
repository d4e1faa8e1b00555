package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/manifests"
)

const module = "github.com/job-executor/job-executor"

// release is a release to build.
type release struct {
	version, directory string
	// platforms are those of the command line, such as linux/amd64.
	platforms []string
	// key is a private key or its URI for cosign, keyless for a workflow's identity, or empty for no signatures.
	key string
	// cosign is the signing program, and builder identifies the builder as a URI.
	cosign, builder string
}

func main() {
	var r release
	flag.StringVar(&r.version, "version", "", "the version, such as v1.2.3")
	flag.StringVar(&r.directory, "directory", "release", "where the files go")
	flag.StringVar(&r.key, "key", "", "the key that signs, as a file or URI for cosign, or "+keyless+"; empty for no signatures")
	flag.StringVar(&r.cosign, "cosign", "cosign", "the program that signs")
	flag.StringVar(&r.builder, "builder", "https://"+module+"/builders/manual", "the URI of the builder, for the provenance")
	platforms := flag.String("platforms", "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64,windows/amd64,windows/arm64", "the platforms of the command line")
	flag.Parse()
	r.platforms = strings.Split(*platforms, ",")
	console.Main("release", r.build)
}

// versions are valid versions: semantic ones, and what git describe says.
var versions = regexp.MustCompile(`^v?[0-9a-zA-Z][-.+0-9a-zA-Z]*$`)

func (r release) build(ctx context.Context) error {
	if !versions.MatchString(r.version) {
		return fmt.Errorf("version %q must be like v1.2.3", r.version)
	}
	for _, name := range []string{"", "sboms"} {
		if err := os.MkdirAll(filepath.Join(r.directory, name), 0o755); err != nil {
			return fmt.Errorf("make a directory for the release: %w", err)
		}
	}
	for _, step := range []func(context.Context) error{r.manifests, r.overlays, r.programs, r.notes, r.provenance, r.checksums, r.sign} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r release) path(name string) string { return filepath.Join(r.directory, name) }

func (r release) write(name string, content []byte) error {
	if err := os.WriteFile(r.path(name), content, 0o644); err != nil {
		return fmt.Errorf("write a file of the release: %w", err)
	}
	return nil
}

// output runs a program and returns what it prints.
func (r release) output(ctx context.Context, environment []string, name string, arguments ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, name, arguments...)
	command.Env, command.Stderr = append(os.Environ(), environment...), os.Stderr
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", command, err)
	}
	return output, nil
}

const manifest = "job-executor.yaml"

// manifests builds the images, and writes the manifests with their digests.
func (r release) manifests(ctx context.Context) error {
	output, err := r.output(ctx, []string{"JOB_EXECUTOR_VERSION=" + r.version}, "ko", "resolve", "--tags", strings.ReplaceAll(r.version, "+", "-"),
		"--sbom", "spdx", "--sbom-dir", r.path("sboms"), "--filename", "config/")
	if err != nil {
		return err
	}
	return r.write(manifest, output)
}

// overlays writes the manifests with each component for which that makes sense, such as job-executor-tracing.yaml.
func (r release) overlays(context.Context) error {
	entries, err := os.ReadDir("config/overlays")
	if err != nil {
		return fmt.Errorf("list the overlays: %w", err)
	}
	for _, entry := range entries {
		// These are parts of overlays that a user writes.
		if slices.Contains([]string{"mirror", "namespaces", "only-jobs", "only-system"}, entry.Name()) {
			continue
		}
		components := []string{entry.Name()}
		if entry.Name() == "oauth" {
			components = []string{"remote-keptn", "oauth"}
		}
		content, err := manifests.Overlay("config", r.path(manifest), components...)
		if err != nil {
			return fmt.Errorf("build overlay %s: %w", entry.Name(), err)
		}
		if err := r.write("job-executor-"+entry.Name()+".yaml", content); err != nil {
			return err
		}
	}
	return nil
}

// programs builds the command line for each platform, with an SBOM.
func (r release) programs(ctx context.Context) error {
	for _, platform := range r.platforms {
		system, processor, _ := strings.Cut(platform, "/")
		name := "job-executor-" + system + "-" + processor
		if system == "windows" {
			name += ".exe"
		}
		environment := []string{"CGO_ENABLED=0", "GOOS=" + system, "GOARCH=" + processor}
		if _, err := r.output(ctx, environment, "go", "build", "-trimpath", "-ldflags", "-s -w -X "+module+"/functions/telemetry.version="+r.version,
			"-o", r.path(name), "./functions/cmd/job-executor"); err != nil {
			return err
		}
		if err := r.describe(name); err != nil {
			return err
		}
	}
	return nil
}

// notes writes the subjects of the commits since the last tag.
func (r release) notes(ctx context.Context) error {
	revisions := "HEAD"
	tags, err := r.output(ctx, nil, "git", "tag", "--merged", "HEAD^")
	if err == nil && len(tags) > 0 {
		last, err := r.output(ctx, nil, "git", "describe", "--tags", "--abbrev=0", "HEAD^")
		if err != nil {
			return err
		}
		revisions = strings.TrimSpace(string(last)) + "..HEAD"
	}
	subjects, err := r.output(ctx, nil, "git", "log", "--no-merges", "--format=* %s", revisions)
	if err != nil {
		return err
	}
	return r.write("NOTES.md", fmt.Appendf(nil, "# Job Executor %s\n\n%s", r.version, subjects))
}

const checksumsFile = "checksums.txt"

// checksums writes the SHA-256 sum of every file, as sha256sum --check reads them.
func (r release) checksums(context.Context) error {
	var sums bytes.Buffer
	err := fs.WalkDir(os.DirFS(r.directory), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path == checksumsFile {
			return err
		}
		file, err := os.Open(r.path(path))
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		sum := sha256.New()
		if _, err := io.Copy(sum, file); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sum.Sum(nil), path)
		return nil
	})
	if err != nil {
		return fmt.Errorf("sum the files of the release: %w", err)
	}
	return r.write(checksumsFile, sums.Bytes())
}
