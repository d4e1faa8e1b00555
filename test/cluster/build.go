package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Versions of programs that are not in our go.mod files.
const (
	koVersion       = "v0.19.1"
	registryVersion = "v3.1.2"
	traefikVersion  = "v3.6.12"
	jaegerVersion   = "v1.76.0"
	kubernetes      = "v1.34.4"
	routerVersion   = "v2.1.0"
)

// packages are installed by apt if one of their programs is missing: containerd may have come with Docker,
// whose package Debian's would remove.
var packages = map[string]string{
	"/bin/busybox": "busybox-static", "/etc/ssl/certs/ca-certificates.crt": "ca-certificates", "/usr/bin/containerd": "containerd",
	"/usr/bin/nsenter": "util-linux", "/usr/bin/prometheus": "prometheus", "/usr/lib/cni/bridge": "containernetworking-plugins", "/usr/sbin/conntrack": "conntrack",
	"/usr/sbin/debootstrap": "debootstrap", "/usr/sbin/ip": "iproute2", "/usr/sbin/ipset": "ipset", "/usr/sbin/iptables": "iptables", "/usr/sbin/nft": "nftables",
	"/usr/sbin/runc": "runc", "/usr/sbin/sysctl": "procps",
}

// artifact is built once and cached until its key changes.
type artifact struct {
	name   string
	key    string
	expect time.Duration // on two cores with empty caches
	make   func(ctx context.Context) error
	// An artifact is only complete if these files exist, too.
	files []string
}

func (c *cluster) artifacts() []artifact {
	modules := c.programs("")
	return []artifact{
		{
			name: "Debian packages", expect: time.Minute,
			make: func(ctx context.Context) error { return c.installPackages(ctx, packages) }, files: slices.Sorted(maps.Keys(packages)),
		},
		{
			name: "Kubernetes and etcd", key: kubernetesVersion() + digest(modules, "kubernetes"), expect: 9 * time.Minute,
			make: c.compileKubernetes,
		},
		{
			name: "ko", key: koVersion, expect: 2 * time.Minute,
			make: func(ctx context.Context) error { return c.install(ctx, "github.com/google/ko@"+koVersion) },
		},
		{
			name: "image registry", key: registryVersion, expect: time.Minute,
			make: func(ctx context.Context) error {
				return c.install(ctx, "github.com/distribution/distribution/v3/cmd/registry@"+registryVersion)
			},
		},
		{
			name: "NATS server", key: digest(c.repository, "go.mod"), expect: time.Minute,
			make: func(ctx context.Context) error {
				return c.compile(ctx, c.repository, "", "github.com/nats-io/nats-server/v2")
			},
		},
		{
			name: "kube-router", key: routerVersion, expect: 4 * time.Minute,
			make: func(ctx context.Context) error {
				return c.install(ctx, "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@"+routerVersion)
			},
		},
		{
			name: "CoreDNS", key: digest(modules, "addons"), expect: 2 * time.Minute,
			make: func(ctx context.Context) error {
				return c.compile(ctx, c.programs("addons"), "", "./coredns")
			},
		},
		{
			// ko links them again. This compiles their packages while the module proxy is reachable.
			name: "Knative", key: digest(modules, "addons"), expect: 4 * time.Minute,
			make: func(ctx context.Context) error { return c.compileTools(ctx, c.programs("addons")) },
		},
		{name: "Traefik", key: traefikVersion, expect: 5 * time.Minute, make: c.compileTraefik},
		{name: "Jaeger", key: jaegerVersion, expect: 5 * time.Minute, make: c.compileJaeger},
		{name: "locust's image", key: "bookworm", expect: 3 * time.Minute, make: c.makeLocust},
		{
			// Packages and test dependencies of this repository: inside the cluster's
			// network nothing can be downloaded.
			name: "Go modules of Job Executor", key: digest(c.repository, "go.sum"), expect: time.Minute,
			make: func(ctx context.Context) error {
				// A release has the command line for other systems, too.
				for _, system := range []string{"linux", "darwin", "windows"} {
					if err := c.online(ctx, c.repository, "env", "GOOS="+system, "go", "list", "-e", "-deps", "-test", "./..."); err != nil {
						return err
					}
				}
				return nil
			},
		},
	}
}

// build builds the missing parts of the cache. It may be interrupted at any time.
func (c *cluster) build(ctx context.Context) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(c.cache, "stamps"), 0o755); err != nil {
		return fmt.Errorf("create the cache: %w", err)
	}
	return c.make(ctx, c.artifacts())
}

// make builds the missing ones of artifacts.
func (c *cluster) make(ctx context.Context, artifacts []artifact) error {
	for _, artifact := range artifacts {
		if c.isMade(artifact) {
			continue
		}
		if err := c.progress.step(artifact.name, artifact.expect, func() error { return artifact.make(ctx) }); err != nil {
			return err
		}
		if err := os.WriteFile(c.stamp(artifact.name), []byte(artifact.fullKey()), 0o600); err != nil {
			return fmt.Errorf("record what was built: %w", err)
		}
	}
	return nil
}

// remaining returns the expected build time of missing artifacts on two cores.
func (c *cluster) remaining() time.Duration {
	var remaining time.Duration
	for _, artifact := range c.artifacts() {
		if !c.isMade(artifact) {
			remaining += artifact.expect
		}
	}
	return remaining
}

func (c *cluster) isMade(a artifact) bool {
	for _, file := range a.files {
		if _, err := os.Stat(file); err != nil {
			return false
		}
	}
	content, err := os.ReadFile(c.stamp(a.name))
	return err == nil && string(content) == a.fullKey()
}

func (a artifact) fullKey() string { return a.key + " " + runtime.Version() }

// digest is a key made from files, or all files of directories.
func digest(base string, names ...string) string {
	hash := sha256.New()
	for _, name := range names {
		_ = filepath.WalkDir(filepath.Join(base, name), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				content, _ := os.ReadFile(path) //nolint:gosec // our own files
				_, _ = hash.Write(content)
			}
			return nil
		})
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// installPackages installs the packages, by file, whose files are missing.
func (c *cluster) installPackages(ctx context.Context, packages map[string]string) error {
	environment := append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if _, err := c.output(ctx, "/", environment, "apt-get", "update"); err != nil {
		return err
	}
	arguments := []string{"apt-get", "install", "--yes", "--no-install-recommends", "--no-remove"}
	for file, name := range packages {
		if _, err := os.Stat(file); err != nil {
			arguments = append(arguments, name)
		}
	}
	_, err := c.output(ctx, "/", environment, arguments...)
	return err
}

// online runs a program outside of the cluster's network, where modules can be
// downloaded. CGO_ENABLED and -trimpath are those of ko, so that packages are
// compiled once for both.
func (c *cluster) online(ctx context.Context, directory string, arguments ...string) error {
	environment := append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false -trimpath",
		"GOBIN="+filepath.Join(c.cache, "bin"))
	_, err := c.output(ctx, directory, environment, arguments...)
	return err
}

func (c *cluster) compile(ctx context.Context, directory, flags string, programs ...string) error {
	arguments := append([]string{"go", "build", "-ldflags", "-s -w " + flags, "-o", filepath.Join(c.cache, "bin") + "/"}, programs...)
	return c.online(ctx, directory, arguments...)
}

func (c *cluster) install(ctx context.Context, program string) error {
	return c.online(ctx, "/", "go", "install", "-ldflags", "-s -w", program)
}

// kubernetesVersion returns the version in the environment variable KUBERNETES, or else that of the module in
// programs.
func kubernetesVersion() string { return cmp.Or(os.Getenv("KUBERNETES"), kubernetes) }

func (c *cluster) compileKubernetes(ctx context.Context) error {
	version := kubernetesVersion()
	module := c.programs("kubernetes")
	if version != kubernetes {
		var err error
		if module, err = c.otherKubernetes(ctx, version); err != nil {
			return err
		}
	}
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	const variable, command = "-X k8s.io/component-base/version.", "k8s.io/kubernetes/cmd/"
	return c.compile(ctx, module, variable+"gitVersion="+version+" "+variable+"gitMajor="+major+" "+variable+"gitMinor="+minor,
		command+"kube-apiserver", command+"kube-controller-manager", command+"kube-proxy", command+"kube-scheduler",
		command+"kubectl", command+"kubelet", "./etcd")
}

// Lines of Kubernetes' go.mod: its own modules, and the version of etcd.
var (
	stagingModule = regexp.MustCompile(`(?m)^\s*(k8s\.io/\S+) => \./staging/`)
	etcdVersion   = regexp.MustCompile(`(?m)^\s*go\.etcd\.io/etcd/client/v3 (\S+)`)
)

// otherKubernetes makes a module like programs/kubernetes for another version, and returns its directory.
func (c *cluster) otherKubernetes(ctx context.Context, version string) (directory string, err error) {
	directory = filepath.Join(c.cache, "source", "kubernetes")
	if err := os.RemoveAll(directory); err != nil {
		return "", fmt.Errorf("remove an old module of Kubernetes: %w", err)
	}
	if err := copyWritable(c.programs("kubernetes"), directory); err != nil {
		return "", fmt.Errorf("copy the module of Kubernetes: %w", err)
	}
	source, err := c.download(ctx, "k8s.io/kubernetes@"+version)
	if err != nil {
		return "", err
	}
	theirs, theirErr := os.ReadFile(filepath.Join(source, "go.mod")) //nolint:gosec // from the module cache
	pinned, err := os.ReadFile(filepath.Join(directory, "go.mod"))   //nolint:gosec // of our own making
	if err := errors.Join(theirErr, err, os.Remove(filepath.Join(directory, "go.sum"))); err != nil {
		return "", fmt.Errorf("prepare Kubernetes %s: %w", version, err)
	}
	etcd := etcdVersion.FindSubmatch(theirs)
	if etcd == nil {
		return "", fmt.Errorf("the go.mod of Kubernetes %s does not name etcd", version)
	}
	tools, _, _ := strings.Cut(string(pinned), "\nrequire ")
	lines := []string{tools, "require go.etcd.io/etcd/server/v3 " + string(etcd[1]), "require k8s.io/kubernetes " + version}
	for _, module := range stagingModule.FindAllSubmatch(theirs, -1) {
		lines = append(lines, fmt.Sprintf("replace %s => %s v0%s", module[1], module[1], strings.TrimPrefix(version, "v1")))
	}
	if err := os.WriteFile(filepath.Join(directory, "go.mod"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("prepare Kubernetes %s: %w", version, err)
	}
	return directory, c.online(ctx, directory, "go", "mod", "tidy")
}

// compileTools compiles the tools of a Go module.
func (c *cluster) compileTools(ctx context.Context, module string) error {
	environment := append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	listed, err := c.output(ctx, module, environment, "go", "list", "tool")
	if err != nil {
		return err
	}
	return c.online(ctx, module, append([]string{"go", "build"}, strings.Fields(string(listed))...)...)
}

// unpack copies a module to a writable directory and makes it the main module, so that its replace directives
// apply.
func (c *cluster) unpack(ctx context.Context, name, module, version string) (string, error) {
	directory := filepath.Join(c.cache, "source", name)
	if err := os.RemoveAll(directory); err != nil {
		return "", fmt.Errorf("remove an old copy of %s: %w", name, err)
	}
	source, err := c.download(ctx, module+"@"+version)
	if err != nil {
		return "", err
	}
	if err := copyWritable(source, directory); err != nil {
		return "", fmt.Errorf("copy %s: %w", name, err)
	}
	return directory, nil
}

// download downloads a version of a module unless the module cache has it, and returns its directory there.
func (c *cluster) download(ctx context.Context, module string) (directory string, err error) {
	downloaded, err := c.output(ctx, "/", append(os.Environ(), "GOFLAGS="), "go", "mod", "download", "-x=false", "-json", module)
	if err != nil {
		return "", err
	}
	var answer struct{ Dir string }
	if err := json.Unmarshal(downloaded, &answer); err != nil {
		return "", fmt.Errorf("read where module %s is: %w", module, err)
	}
	return answer.Dir, nil
}

func copyWritable(source, target string) error {
	return filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(target, relative), 0o755)
		}
		content, err := os.ReadFile(path) //nolint:gosec // from the module cache
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(target, relative), content, 0o644)
	})
}

// noDNSProviders replaces the file with which Traefik's ACME library imports the clients of 180 DNS providers,
// half of Traefik's build.
const noDNSProviders = `package dns

import (
	"fmt"

	"github.com/go-acme/lego/v4/challenge"
)

// NewDNSChallengeProviderByName knows no provider.
func NewDNSChallengeProviderByName(name string) (challenge.Provider, error) {
	return nil, fmt.Errorf("unrecognized DNS provider: %s", name)
}
`

func (c *cluster) compileTraefik(ctx context.Context) error {
	traefik, err := c.unpack(ctx, "traefik", "github.com/traefik/traefik/v3", traefikVersion)
	if err != nil {
		return err
	}
	const acme = "github.com/go-acme/lego/v4"
	modules, err := os.ReadFile(filepath.Join(traefik, "go.mod")) //nolint:gosec // of our own making
	if err != nil {
		return fmt.Errorf("read Traefik's go.mod: %w", err)
	}
	_, rest, found := strings.Cut(string(modules), acme+" ")
	version, _, _ := strings.Cut(rest, "\n")
	if !found {
		return errors.New("Traefik's go.mod does not name " + acme)
	}
	lego, err := c.unpack(ctx, "lego", acme, strings.TrimSpace(version))
	if err != nil {
		return err
	}
	providers := filepath.Join(lego, "providers", "dns", "zz_gen_dns_providers.go")
	if _, err := os.Stat(providers); err != nil {
		return fmt.Errorf("the ACME library looks different: %w", err)
	}
	// The web pages that Traefik embeds are not in its module.
	page := filepath.Join(traefik, "webui", "static", "index.html")
	if err := errors.Join(
		os.WriteFile(providers, []byte(noDNSProviders), 0o600),
		os.WriteFile(page, []byte("<p>Traefik's web pages are not part of its Go module.</p>\n"), 0o600),
	); err != nil {
		return fmt.Errorf("prepare Traefik: %w", err)
	}
	if err := c.online(ctx, traefik, "go", "mod", "edit", "-replace", acme+"="+lego); err != nil {
		return err
	}
	return c.compileCopy(ctx, traefik, "./cmd/traefik")
}

func (c *cluster) compileJaeger(ctx context.Context) error {
	jaeger, err := c.unpack(ctx, "jaeger", "github.com/jaegertracing/jaeger", jaegerVersion)
	if err != nil {
		return err
	}
	return c.compileCopy(ctx, jaeger, "./cmd/jaeger")
}

func (c *cluster) compileCopy(ctx context.Context, directory, program string) error {
	return c.online(ctx, directory, "go", "build", "-mod=mod", "-ldflags", "-s -w", "-o", filepath.Join(c.cache, "bin")+"/", program)
}

// makeLocust builds the layer of locust's image from Debian's package.
func (c *cluster) makeLocust(ctx context.Context) error {
	root := filepath.Join(c.cache, "source", "locust")
	if err := errors.Join(unmountBelow(root), os.RemoveAll(root)); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		return fmt.Errorf("create the directory of locust's image: %w", err)
	}
	bootstrap := []string{"debootstrap", "--variant=minbase", "bookworm", root}
	if mirror := debianMirror(); mirror != "" {
		bootstrap = append(bootstrap, mirror)
	}
	environment := append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if _, err := c.output(ctx, "/", environment, bootstrap...); err != nil {
		return err
	}
	// The build needs the machine's apt settings. They are not part of the image.
	lent, err := lend(root, "/etc/apt/apt.conf.d/*", "/etc/apt/auth.conf", "/etc/apt/auth.conf.d/*", "/etc/resolv.conf", "/etc/hosts")
	if err != nil {
		return err
	}
	script := "mount -t proc proc /proc && trap 'umount /proc' EXIT && apt-get update && " +
		"apt-get install --yes --no-install-recommends python3-locust && apt-get clean && rm -rf /var/lib/apt/lists/*"
	if _, err := c.output(ctx, "/", environment, "chroot", root, "sh", "-ec", script); err != nil {
		return err
	}
	for _, name := range lent {
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("remove what is no part of the image: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Join(c.cache, "images"), 0o755); err != nil {
		return fmt.Errorf("create the directory of images: %w", err)
	}
	if _, err := c.output(ctx, "/", environment, "tar", "--create", "--file", c.locustLayer(), "--directory", root,
		"--exclude=./proc/*", "--exclude=./dev/*", "--exclude=./usr/share/doc/*", "--exclude=./usr/share/locale/*", "."); err != nil {
		return err
	}
	return os.RemoveAll(root)
}

// lend copies files of this machine below a root, and returns the copies.
func lend(root string, patterns ...string) ([]string, error) {
	var copies []string
	for _, pattern := range patterns {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("look for %s: %w", pattern, err)
		}
		for _, name := range names {
			content, err := os.ReadFile(name) //nolint:gosec // the machine's own files
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", name, err)
			}
			target := filepath.Join(root, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, content, 0o600)); err != nil {
				return nil, fmt.Errorf("lend %s: %w", name, err)
			}
			copies = append(copies, target)
		}
	}
	return copies, nil
}

func (c *cluster) locustLayer() string {
	return filepath.Join(c.cache, "images", "locust.tar")
}

// debianMirror is the first mirror that apt uses on this machine.
func debianMirror() string {
	uris, err := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").Output() //nolint:noctx // reads files only
	if err != nil {
		return ""
	}
	for _, uri := range strings.Fields(string(uris)) {
		if strings.HasSuffix(strings.TrimSuffix(uri, "/"), "/debian") {
			return uri
		}
	}
	return ""
}
