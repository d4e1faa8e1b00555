package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// The addresses of the cluster. All are inside its network namespace.
const (
	namespace      = "job-executor"
	nodeAddress    = "10.200.0.1"
	nodeName       = "node"
	podNetwork     = "10.244.0.0/24"
	serviceNetwork = "10.96.0.0/16"
	firstService   = "10.96.0.1"
	registry       = nodeAddress + ":5000"
	adminToken     = "admin-of-the-test-cluster" //nolint:gosec // of a cluster that nobody else reaches
)

// cluster knows where everything is on this machine.
type cluster struct {
	repository string
	// cache survives the cluster: programs, images and downloads.
	cache string
	// state is gone after down.
	state    string
	progress *progress
}

func newCluster(repository string) (*cluster, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("find the cache directory: %w", err)
	}
	cache := filepath.Join(base, "job-executor")
	return &cluster{repository: repository, cache: cache, state: filepath.Join(cache, "cluster"), progress: newProgress()}, nil
}

func (c *cluster) bin(name string) string  { return filepath.Join(c.cache, "bin", name) }
func (c *cluster) file(name string) string { return filepath.Join(c.state, name) }
func (c *cluster) kubeconfig() string      { return c.file("kubeconfig") }
func (c *cluster) stamp(name string) string {
	return filepath.Join(c.cache, "stamps", name)
}

// environment is the environment of all programs that work on the cluster.
func (c *cluster) environment() []string {
	return append(os.Environ(),
		"KUBECONFIG="+c.kubeconfig(), "JOB_EXECUTOR_TEST_CLUSTER=1",
		"KO_DOCKER_REPO="+registry+"/job-executor",
		"KO_DEFAULTBASEIMAGE="+registry+"/base:latest", "KO_DEFAULTPLATFORMS=linux/"+runtime.GOARCH,
		"KOCACHE="+filepath.Join(c.cache, "ko"),
		"PATH="+filepath.Join(c.cache, "bin")+":"+os.Getenv("PATH")+":/usr/sbin:/sbin",
		// There is no way out of the cluster's network; everything was downloaded.
		"GOPROXY=off", "GOFLAGS=-buildvcs=false",
	)
}

// muchToBuild distinguishes a first build from one after a small change.
const muchToBuild = 10 * time.Minute

// check finds out before anything starts whether the machine is fit.
func (c *cluster) check() error {
	switch {
	case runtime.GOOS != "linux":
		return fmt.Errorf("the cluster needs Linux, this is %s; set KUBECONFIG to use a cluster of your own", runtime.GOOS)
	case os.Geteuid() != 0:
		return errors.New("the cluster needs root: it makes a network namespace and runs containers; set KUBECONFIG to use a cluster of your own")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("the cluster needs Debian or Ubuntu, since it installs containerd by apt-get; set KUBECONFIG to use a cluster of your own")
	}
	need := uint64(8)
	if c.remaining() > muchToBuild {
		need = 25
	}
	if err := os.MkdirAll(c.cache, 0o755); err != nil {
		return fmt.Errorf("create the cache: %w", err)
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(c.cache, &disk); err != nil {
		return fmt.Errorf("look at the free space of %s: %w", c.cache, err)
	}
	if free := disk.Bavail * uint64(disk.Bsize) >> 30; free < need { //nolint:gosec // a block size is positive
		return fmt.Errorf("%s has %d GB free, %d are needed", c.cache, free, need)
	}
	return nil
}

func (c *cluster) up(ctx context.Context) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.status(ctx) == nil {
		return nil
	}
	if ended := c.ended(); len(ended) > 0 {
		// The remains look alive: a ready node, and webhooks without servers.
		fmt.Printf("The cluster was up, and %s ended since: it is made anew.\n", strings.Join(ended, ", "))
		if err := c.down(ctx); err != nil {
			return err
		}
	}
	if remaining := c.remaining(); remaining > muchToBuild {
		fmt.Printf("The first time, Kubernetes, Knative, Traefik and Jaeger are compiled: about %s on two cores,\n", remaining)
		fmt.Printf("and up to 20 GB in the caches of Go and in %s. It can be interrupted, and goes on where it was.\n", c.cache)
	}
	if err := c.build(ctx); err != nil {
		return err
	}
	if err := c.progress.step("network namespace "+namespace, time.Second, func() error { return c.makeNetwork(ctx) }); err != nil {
		return err
	}
	if err := c.selfInNetwork(ctx, "up-node"); err != nil {
		for _, name := range c.ended() {
			fmt.Printf("%s has ended. The end of its log:\n%s\n", name, c.lastLog(name))
		}
		return errors.New("the cluster did not come up; try again, or look into " + c.file("log"))
	}
	return c.status(ctx)
}

// selfInNetwork runs a command of this program inside the network namespace.
func (c *cluster) selfInNetwork(ctx context.Context, command string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	return runAttached(ctx, c.repository, []string{"nsenter", "--net=/run/netns/" + namespace, self, command}, c.environment())
}

// upNode runs inside the network namespace.
func (c *cluster) upNode(ctx context.Context) error {
	return c.do(ctx, []step{
		{"control plane", 10 * time.Second, c.startControlPlane},
		{"registry and base images", 5 * time.Second, c.startRegistry},
		{"node", 10 * time.Second, c.startNode},
		{"images of Knative", 4 * time.Minute, func(ctx context.Context) error { return c.resolve(ctx, knativeManifests()) }},
		{"images of Jaeger and locust", 30 * time.Second, c.pushImages},
		{"NATS", time.Second, c.startNATS},
		{"Knative", 90 * time.Second, c.installKnative},
		{"Jaeger", 10 * time.Second, c.installJaeger},
		{"a function that scales from zero", 30 * time.Second, c.checkServing},
	})
}

// A step shows its progress next to its usual duration.
type step struct {
	name   string
	expect time.Duration
	do     func(context.Context) error
}

func (c *cluster) do(ctx context.Context, steps []step) error {
	for _, step := range steps {
		if err := c.progress.step(step.name, step.expect, func() error { return step.do(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// status returns nil if the cluster is up.
func (c *cluster) status(ctx context.Context) error {
	if _, err := os.Stat(c.file("up")); err != nil {
		return errors.New("the cluster is not up")
	}
	if ended := c.ended(); len(ended) > 0 {
		return fmt.Errorf("the cluster is not well, take it down and up again: %s ended", strings.Join(ended, ", "))
	}
	if _, err := c.inNetwork(ctx, c.bin("kubectl"), "get", "--raw", "/readyz"); err != nil {
		return fmt.Errorf("the cluster is not well, take it down and up again: %w", err)
	}
	fmt.Printf("The cluster is up. In its network: go -C test/cluster run . exec kubectl get pods -A\n")
	return nil
}

func (c *cluster) exec(ctx context.Context, arguments []string) error {
	if len(arguments) == 0 {
		return errors.New("exec needs a command")
	}
	if _, err := os.Stat(c.file("up")); err != nil {
		return errors.New("the cluster is not up; bring it up with make cluster-up")
	}
	environment := c.environment()
	// Look up the command among the cluster's programs, too.
	if !strings.Contains(arguments[0], "/") {
		if _, err := os.Stat(c.bin(arguments[0])); err == nil {
			arguments[0] = c.bin(arguments[0])
		}
	}
	return runAttached(ctx, c.repository, append([]string{"nsenter", "--net=/run/netns/" + namespace}, arguments...), environment)
}

// inNetwork runs a program in the cluster's network, and returns its output.
func (c *cluster) inNetwork(ctx context.Context, arguments ...string) ([]byte, error) {
	return c.output(ctx, c.repository, c.environment(), append([]string{"nsenter", "--net=/run/netns/" + namespace}, arguments...)...)
}

// quiet runs a program, and shows its output only on failure.
func (c *cluster) quiet(ctx context.Context, directory string, arguments ...string) error {
	_, err := c.output(ctx, directory, c.environment(), arguments...)
	return err
}

func (c *cluster) output(ctx context.Context, directory string, environment []string, arguments ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, arguments[0], arguments[1:]...) //nolint:gosec // our own commands
	command.Dir, command.Env = directory, environment
	var failure strings.Builder
	command.Stderr = &failure
	content, err := command.Output()
	if err != nil {
		return content, fmt.Errorf("%s: %w\n%s", strings.Join(arguments, " "), err, lastLines(failure.String()+string(content), 20))
	}
	return content, nil
}

func lastLines(text string, count int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}
