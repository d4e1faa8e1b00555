package fetcher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Configuration is the environment of the init container.
type Configuration struct {
	// Files are the files and directories to fetch.
	Files Paths `env:"FILES,notEmpty"`
	// Target is the directory to write to.
	Target string `env:"TARGET" envDefault:"/keptn"`
	// BridgeURL is the bridge's address.
	BridgeURL string `env:"BRIDGE_URL,notEmpty"`
	// Grant permits reading the files of the task's service.
	Grant string `env:"GRANT,notEmpty"`
	// TokenFile has the service account token that identifies the pod.
	TokenFile string `env:"BRIDGE_TOKEN_FILE,notEmpty"`
	// Timeout bounds the whole fetch.
	Timeout time.Duration `env:"TIMEOUT" envDefault:"2m"`
	// Traceparent is the parent of the spans; empty for none (W3C Trace Context).
	Traceparent string `env:"TRACEPARENT"`
}

// Paths is a JSON list of paths in an environment variable.
type Paths []string

// UnmarshalText parses the list.
func (p *Paths) UnmarshalText(text []byte) error {
	return json.Unmarshal(text, (*[]string)(p))
}

// Run fetches a task's files from the bridge over transport.
func Run(ctx context.Context, configuration Configuration, signals *telemetry.Signals, transport http.RoundTripper) error {
	return (&Fetcher{
		Configuration: configuration, Tracer: signals.Tracers.Tracer("fetcher"), Log: signals.Log,
		Gateway: files.Client{URL: configuration.BridgeURL, TokenFile: configuration.TokenFile, HTTP: &http.Client{Transport: transport, Timeout: files.CallTimeout}},
	}).Run(ctx)
}

// Fetcher fetches files from the bridge.
type Fetcher struct {
	Configuration Configuration
	Gateway       files.Client
	Tracer        trace.Tracer
	Log           *slog.Logger
}

// Run fetches all entries. An entry is a file, or a directory with all of its files. It returns an error that
// names an entry that is neither.
func (f *Fetcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, f.Configuration.Timeout)
	defer cancel()
	ctx = trace.ContextWithRemoteSpanContext(ctx, telemetry.Parse(ctx, f.Configuration.Traceparent))
	if err := os.MkdirAll(f.Configuration.Target, 0o755); err != nil {
		return fmt.Errorf("create the directory for the files: %w", err)
	}
	root, err := os.OpenRoot(f.Configuration.Target)
	if err != nil {
		return fmt.Errorf("open the directory for the files: %w", err)
	}
	defer func() { _ = root.Close() }()
	for _, entry := range f.Configuration.Files {
		if err := f.fetch(ctx, root, entry); err != nil {
			return err
		}
	}
	return nil
}

// fetch fetches an entry from the first level with it: the service's, the stage's, then the project's.
func (f *Fetcher) fetch(ctx context.Context, root *os.Root, entry string) (err error) {
	if trace.SpanContextFromContext(ctx).IsValid() {
		var span trace.Span
		ctx, span = f.Tracer.Start(ctx, "read "+entry)
		defer func() {
			if err != nil {
				telemetry.Fail(span, "file", err.Error())
			}
			span.End()
		}()
	}
	for _, level := range files.Levels() {
		found, err := f.fetchFrom(ctx, root, level, strings.Trim(entry, "/"))
		if err != nil {
			return fmt.Errorf("fetch %s: %w", entry, err)
		}
		if found {
			trace.SpanFromContext(ctx).SetAttributes(attribute.String("job_executor.file.level", string(level)))
			return nil
		}
	}
	return fmt.Errorf("could not find file or directory %s in the files of the service, the stage or the project", entry)
}

// fetchFrom fetches a file, or all files below a directory; an empty name means all files.
func (f *Fetcher) fetchFrom(ctx context.Context, root *os.Root, level files.Level, name string) (found bool, err error) {
	if name != "" {
		content, err := f.file(ctx, level, name)
		if err == nil {
			return true, f.write(root, name, content)
		}
		if !errors.Is(err, files.ErrNotFound) {
			return false, err
		}
	}
	paths, err := patiently(ctx, f.Log, func(ctx context.Context) ([]string, error) {
		return f.Gateway.Paths(ctx, f.Configuration.Grant, level)
	})
	if err != nil && !errors.Is(err, files.ErrNotFound) {
		return false, fmt.Errorf("list the files: %w", err)
	}
	for _, path := range paths {
		if name != "" && !strings.HasPrefix(path, name+"/") {
			continue
		}
		content, err := f.file(ctx, level, path)
		if errors.Is(err, files.ErrNotFound) {
			// Keptn always lists the newest commit, so this file was added after the event's.
			f.Log.InfoContext(ctx, "skipping a file that is missing at the event's commit", "path", path)
			continue
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", path, err)
		}
		found = true
		if err := f.write(root, path, content); err != nil {
			return false, err
		}
	}
	return found, nil
}

func (f *Fetcher) file(ctx context.Context, level files.Level, path string) ([]byte, error) {
	content, err := patiently(ctx, f.Log, func(ctx context.Context) ([]byte, error) {
		return f.Gateway.File(ctx, f.Configuration.Grant, level, path, files.MaxFileBytes)
	})
	if err == nil && len(content) > files.MaxFileBytes {
		return nil, fmt.Errorf("it has more than %d bytes", files.MaxFileBytes)
	}
	return content, err
}

// The modes of directories and files. They belong to the pod's group (fsGroup). The task's container is in that
// group, and may run as any user, even as root without capabilities.
const (
	directoryMode = 0o775
	fileMode      = 0o664
	// scriptMode makes files that begin with #! executable, so that a task can run them as its
	// cmd. Keptn's API does not transfer file modes.
	scriptMode = 0o775
)

func modeOf(content []byte) os.FileMode {
	if bytes.HasPrefix(content, []byte("#!")) {
		return scriptMode
	}
	return fileMode
}

func (f *Fetcher) write(root *os.Root, name string, content []byte) error {
	if err := makeDirectory(root, filepath.Dir(name)); err != nil {
		return fmt.Errorf("create the directory of %s: %w", name, err)
	}
	mode := modeOf(content)
	err := root.WriteFile(name, content, mode)
	if err == nil {
		err = root.Chmod(name, mode) // whatever the umask
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	f.Log.Info("file fetched", "path", filepath.Join(f.Configuration.Target, name), "bytes", len(content))
	return nil
}

// makeDirectory makes a directory, and those that it is in.
func makeDirectory(root *os.Root, name string) error {
	if name == "." {
		return nil
	}
	if err := makeDirectory(root, filepath.Dir(name)); err != nil {
		return err
	}
	if err := root.Mkdir(name, directoryMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return root.Chmod(name, directoryMode)
}

// patiently calls the bridge, and retries while the bridge or Keptn is unavailable.
func patiently[Answer any](ctx context.Context, log *slog.Logger, ask func(context.Context) (Answer, error)) (Answer, error) {
	return function.Retry(ctx, log, func(ctx context.Context) (Answer, error) {
		answer, err := ask(ctx)
		if status, ok := errors.AsType[*files.StatusError](err); errors.Is(err, files.ErrNotFound) || ok && !status.IsTemporary() {
			err = function.Permanent(err)
		}
		return answer, err
	})
}
