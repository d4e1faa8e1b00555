package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// leftOut are Knative's manifests that the test cluster does not need.
var leftOut = []string{
	"job-sink", "request-reply", "auth-proxy", "pingsource-mt-adapter", "-hpa.yaml", "default-domain",
}

// unusedImages are images in the controller's settings for sources that the test cluster does not use.
var unusedImages = regexp.MustCompile(`ko://knative\.dev/eventing/cmd/(apiserver_receive_adapter|auth_proxy|mtping|jobsink|requestreply|appender|event_display|heartbeats|websocketsource)`)

// manifests are the manifests of modules that belong together.
type manifests struct {
	// name is the directory of their Go module in programs.
	name string
	// paths are the files by module. A module that the Go module does not require has a version here. Modules lack
	// symbolic links, so for Knative the targets of the links are listed.
	paths map[string][]string
}

func knativeManifests() manifests {
	return manifests{name: "addons", paths: map[string][]string{
		"knative.dev/eventing": {"config/core", "config/channels/in-memory-channel", "config/brokers/mt-channel-broker", "third_party/eventing-integrations-latest"},
		"knative.dev/serving":  {"config/core"},
		"knative.dev/networking": {
			"config/certificate.yaml", "config/config-network.yaml", "config/domain-claim.yaml", "config/ingress.yaml", "config/serverlessservice.yaml",
		},
		"knative.dev/caching":        {"config/image.yaml"},
		"knative.dev/eventing-natss": {"config/jetstream", "config/webhook"},
	}}
}

func (c *cluster) programs(name string) string {
	return filepath.Join(c.repository, "test", "cluster", "programs", name)
}

// resolved returns the file with the manifests whose images are in the registry. The name depends on their Go
// module and their paths.
func (c *cluster) resolved(m manifests) string {
	inputs := fmt.Append(nil, m.paths, digest(filepath.Join(c.repository, "test", "cluster"), "programs/"+m.name, "knative.go"))
	return filepath.Join(c.cache, fmt.Sprintf("%s-%.8x.yaml", m.name, sha256.Sum256(inputs)))
}

// resolve has ko build the images of manifests. It keeps the images and the manifests.
func (c *cluster) resolve(ctx context.Context, m manifests) error {
	if _, err := os.Stat(c.resolved(m)); err == nil {
		return nil
	}
	source := c.file(m.name + "-source")
	if err := errors.Join(os.RemoveAll(source), os.MkdirAll(source, 0o755)); err != nil {
		return fmt.Errorf("create a directory for manifests: %w", err)
	}
	count := 0
	for module, paths := range m.paths {
		directory, err := c.source(ctx, m, module)
		if err != nil {
			return err
		}
		for _, path := range paths {
			err := filepath.WalkDir(filepath.Join(directory, path), func(file string, entry fs.DirEntry, err error) error {
				skip := func(part string) bool { return strings.Contains(file, part) }
				if err != nil || entry.IsDir() || filepath.Ext(file) != ".yaml" || slices.ContainsFunc(leftOut, skip) {
					return err
				}
				content, err := os.ReadFile(file) //nolint:gosec // from the module cache
				if err != nil {
					return err
				}
				count++
				content = unusedImages.ReplaceAll(content, []byte("unused"))
				return os.WriteFile(filepath.Join(source, fmt.Sprintf("%03d-%s", count, filepath.Base(file))), content, 0o600)
			})
			if err != nil {
				return fmt.Errorf("read the manifests of %s: %w", module, err)
			}
		}
	}
	environment := append(c.environment(), "KO_DOCKER_REPO="+registry+"/knative")
	resolved, err := c.output(ctx, c.programs(m.name), environment, c.bin("ko"), "resolve",
		"--base-import-paths", "--recursive", "--sbom=none", "--filename", source)
	if err != nil {
		return err
	}
	return os.WriteFile(c.resolved(m), resolved, 0o600)
}

// source returns the directory of a module of manifests.
func (c *cluster) source(ctx context.Context, m manifests, module string) (string, error) {
	if strings.Contains(module, "@") {
		return c.download(ctx, module)
	}
	directory, err := c.output(ctx, c.programs(m.name), c.environment(), "go", "list", "-m", "-f", "{{.Dir}}", module)
	return strings.TrimSpace(string(directory)), err
}

// startNATS starts the server that keeps the events of Brokers on NATS JetStream.
func (c *cluster) startNATS(ctx context.Context) error {
	return c.start(ctx, "nats-server", answers(nodeAddress+":4222"), c.bin("nats-server"),
		"--addr", nodeAddress, "--port", "4222", "--jetstream", "--store_dir", c.file("jetstream"))
}

// defining are the kinds that other objects need.
var defining = regexp.MustCompile(`(?m)^kind: (CustomResourceDefinition|Namespace)$`)

// applyResolved applies manifests, the kinds first.
func (c *cluster) applyResolved(ctx context.Context, m manifests) error {
	resolved, err := os.ReadFile(c.resolved(m))
	if err != nil {
		return fmt.Errorf("read manifests: %w", err)
	}
	var definitions, others []string
	for document := range strings.SplitSeq(string(resolved), "\n---") {
		if defining.MatchString(document) {
			definitions = append(definitions, document)
		} else {
			others = append(others, document)
		}
	}
	first, second := c.file(m.name+"-definitions.yaml"), c.file(m.name+"-others.yaml")
	for path, documents := range map[string][]string{first: definitions, second: others} {
		if err := os.WriteFile(path, []byte(strings.Join(documents, "\n---")), 0o600); err != nil {
			return fmt.Errorf("write manifests: %w", err)
		}
	}
	if err := c.apply(ctx, first); err != nil {
		return err
	}
	if err := c.kubectl(ctx, "wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"); err != nil {
		return err
	}
	return c.apply(ctx, second)
}

func (c *cluster) installKnative(ctx context.Context) error {
	if err := c.applyResolved(ctx, knativeManifests()); err != nil {
		return err
	}
	for _, name := range []string{"knative-settings.yaml", "ingress.yaml", "nats.yaml"} {
		path, err := c.render(name)
		if err != nil {
			return err
		}
		// Knative's webhooks validate settings, so they must be ready.
		if err := wait(ctx, 3*time.Minute, func() error { return c.apply(ctx, path) }); err != nil {
			return err
		}
	}
	err := c.start(ctx, "traefik", answers(nodeAddress+":80"), c.bin("traefik"),
		"--experimental.knative=true", "--providers.knative=true",
		"--providers.knative.endpoint=https://"+nodeAddress+":6443", "--providers.knative.token="+adminToken,
		"--providers.knative.certauthfilepath="+c.file("pki/ca.crt"),
		"--providers.knative.privateservice.name=traefik-private", "--providers.knative.privateservice.namespace=traefik",
		"--providers.knative.privateentrypoints=private", "--entrypoints.private.address="+nodeAddress+":80",
		"--global.checknewversion=false", "--global.sendanonymoususage=false", "--log.level=WARN")
	if err != nil {
		return err
	}
	if err := c.awaitDeployments(ctx, "knative-eventing"); err != nil {
		return err
	}
	return c.awaitDeployments(ctx, "knative-serving")
}

func (c *cluster) awaitDeployments(ctx context.Context, namespace string) error {
	return c.kubectl(ctx, "wait", "--for=condition=Available", "--timeout=300s", "--namespace", namespace, "deployment", "--all")
}

func (c *cluster) installJaeger(ctx context.Context) error {
	path, err := c.render("jaeger.yaml")
	if err != nil {
		return err
	}
	if err := c.apply(ctx, path); err != nil {
		return err
	}
	return c.kubectl(ctx, "wait", "--for=condition=Available", "--timeout=120s", "--namespace", "observability", "deployment/jaeger")
}

// checkServing runs a function once. When it is ready, images, ingress and autoscaler work.
func (c *cluster) checkServing(ctx context.Context) error {
	path, err := c.render("hello.yaml")
	if err != nil {
		return err
	}
	if err := wait(ctx, time.Minute, func() error { return c.apply(ctx, path) }); err != nil {
		return err
	}
	if err := c.kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=180s", "ksvc/hello"); err != nil {
		return err
	}
	if err := c.kubectl(ctx, "delete", "--wait=false", "ksvc/hello"); err != nil {
		return err
	}
	if err := os.WriteFile(c.file("up"), nil, 0o600); err != nil {
		return fmt.Errorf("record that the cluster is up: %w", err)
	}
	return nil
}

func (c *cluster) apply(ctx context.Context, path string) error {
	// Each file has its own field manager: with one manager, applying a second file would remove fields of the
	// first.
	return c.kubectl(ctx, "apply", "--server-side", "--force-conflicts", "--field-manager", filepath.Base(path), "--filename", path)
}

func (c *cluster) kubectl(ctx context.Context, arguments ...string) error {
	return c.quiet(ctx, c.state, append([]string{c.bin("kubectl")}, arguments...)...)
}
