package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// startRegistry starts the image registry, whose images survive the cluster, and pushes the base images.
func (c *cluster) startRegistry(ctx context.Context) error {
	configuration, err := c.renderRegistry()
	if err != nil {
		return err
	}
	if err := c.start(ctx, "registry", answers(registry), c.bin("registry"), "serve", configuration); err != nil {
		return err
	}
	busybox, err := c.busyboxLayer(ctx)
	if err != nil {
		return err
	}
	certificates, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		return fmt.Errorf("read the machine's certificates: %w", err)
	}
	base, err := tarOf([]entry{
		{name: "tmp/", mode: 0o1777},
		{name: "etc/passwd", mode: 0o644, content: "root:x:0:0::/root:/sbin/nologin\nnonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n"},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: string(certificates)},
	})
	if err != nil {
		return err
	}
	const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for reference, image := range map[string]struct {
		layer  []byte
		config v1.Config
	}{
		"library/busybox": {busybox, v1.Config{Cmd: []string{"/bin/sh"}, Env: []string{path}}},
		// A pod's sandbox runs any idle program.
		"pause": {busybox, v1.Config{Entrypoint: []string{"/bin/sleep", "infinity"}}},
		// ko's base image: only certificates, and not root.
		"base": {base, v1.Config{User: "65532", Env: []string{path, "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"}}},
	} {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(image.layer)), nil })
		if err != nil {
			return fmt.Errorf("create the layer of %s: %w", reference, err)
		}
		if err := push(ctx, reference, layer, image.config); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) renderRegistry() (string, error) {
	path := c.file("registry.yaml")
	content := fmt.Sprintf("version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n",
		filepath.Join(c.cache, "registry"), registry)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return "", fmt.Errorf("write the registry's configuration: %w", err)
	}
	return path, nil
}

// pushImages gives the registry the images of Jaeger and locust.
func (c *cluster) pushImages(ctx context.Context) error {
	jaeger, err := os.ReadFile(c.bin("jaeger"))
	if err != nil {
		return fmt.Errorf("read Jaeger: %w", err)
	}
	content, err := tarOf([]entry{{name: "jaeger", mode: 0o755, content: string(jaeger)}})
	if err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	if err != nil {
		return fmt.Errorf("create the layer of jaeger: %w", err)
	}
	if err := push(ctx, "jaeger", layer, v1.Config{User: "65532", Entrypoint: []string{"/jaeger"}}); err != nil {
		return err
	}
	if exists(ctx, "locustio/locust") {
		return nil
	}
	layer, err = tarball.LayerFromFile(c.locustLayer())
	if err != nil {
		return fmt.Errorf("create the layer of locust: %w", err)
	}
	return push(ctx, "locustio/locust", layer, v1.Config{
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "PYTHONUNBUFFERED=1"},
	})
}

func reference(repository string) (name.Reference, error) {
	parsed, err := name.ParseReference(registry+"/"+repository+":latest", name.Insecure)
	if err != nil {
		return nil, fmt.Errorf("name image %s: %w", repository, err)
	}
	return parsed, nil
}

func exists(ctx context.Context, repository string) bool {
	parsed, err := reference(repository)
	if err != nil {
		return false
	}
	_, err = remote.Head(parsed, remote.WithContext(ctx))
	return err == nil
}

func push(ctx context.Context, repository string, layer v1.Layer, config v1.Config) error {
	parsed, err := reference(repository)
	if err != nil {
		return err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return fmt.Errorf("create image %s: %w", repository, err)
	}
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		Architecture: runtime.GOARCH, OS: "linux", Config: config,
		RootFS: v1.RootFS{Type: "layers", DiffIDs: diffIDs(image)},
	})
	if err != nil {
		return fmt.Errorf("create image %s: %w", repository, err)
	}
	if err := remote.Write(parsed, image, remote.WithContext(ctx)); err != nil {
		return fmt.Errorf("push image %s: %w", repository, err)
	}
	return nil
}

func diffIDs(image v1.Image) []v1.Hash {
	config, err := image.ConfigFile()
	if err != nil {
		return nil
	}
	return config.RootFS.DiffIDs
}

// busyboxLayer is /bin with busybox and a link for each of its programs.
func (c *cluster) busyboxLayer(ctx context.Context) ([]byte, error) {
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, fmt.Errorf("read busybox: %w", err)
	}
	listed, err := c.output(ctx, "/", os.Environ(), "/bin/busybox", "--list")
	if err != nil {
		return nil, err
	}
	entries := []entry{
		{name: "tmp/", mode: 0o1777},
		{name: "etc/passwd", mode: 0o644, content: "root:x:0:0::/:/bin/sh\n"},
		{name: "bin/busybox", mode: 0o755, content: string(program)},
	}
	for _, applet := range strings.Fields(string(listed)) {
		if applet != "busybox" {
			entries = append(entries, entry{name: "bin/" + applet, link: "busybox"})
		}
	}
	return tarOf(entries)
}

type entry struct {
	name    string
	mode    int64
	content string
	link    string
}

func tarOf(entries []entry) ([]byte, error) {
	var content bytes.Buffer
	writer := tar.NewWriter(&content)
	for _, entry := range entries {
		header := &tar.Header{Name: entry.name, Mode: entry.mode, Size: int64(len(entry.content)), Typeflag: tar.TypeReg}
		switch {
		case entry.link != "":
			header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, entry.link, 0o777
		case strings.HasSuffix(entry.name, "/"):
			header.Typeflag = tar.TypeDir
		}
		if err := writer.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("create a layer: %w", err)
		}
		if _, err := writer.Write([]byte(entry.content)); err != nil {
			return nil, fmt.Errorf("create a layer: %w", err)
		}
	}
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("create a layer: %w", err)
	}
	return content.Bytes(), nil
}
