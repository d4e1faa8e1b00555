package fetcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/function"
)

// Configuration is what the Job tells its init container.
type Configuration struct {
	// Files is a JSON list of the files and directories to be fetched.
	Files Paths `env:"FILES,notEmpty"`
	// Target is the directory below which they are written.
	Target string `env:"TARGET" envDefault:"/keptn"`
	// BridgeURL is the bridge's address.
	BridgeURL string `env:"BRIDGE_URL,notEmpty"`
	// Grant allows to read the files of the task's service.
	Grant string `env:"GRANT,notEmpty"`
	// Timeout bounds everything together.
	Timeout time.Duration `env:"TIMEOUT" envDefault:"2m"`
}

// Paths is a JSON list of paths in an environment variable.
type Paths []string

// UnmarshalText reads the list; it is an error if it is none.
func (paths *Paths) UnmarshalText(text []byte) error {
	return json.Unmarshal(text, (*[]string)(paths))
}

// Run fetches a task's files from the bridge, to which transport makes requests.
func Run(ctx context.Context, configuration Configuration, telemetry *function.Telemetry, transport http.RoundTripper) error {
	return (&Fetcher{
		Configuration: configuration, Log: telemetry.Log,
		Gateway: files.Client{URL: configuration.BridgeURL, HTTP: &http.Client{Transport: telemetry.Transport(transport), Timeout: files.CallTimeout}},
	}).Run(ctx)
}

// Fetcher writes files that it gets from the bridge.
type Fetcher struct {
	Configuration Configuration
	Gateway       files.Client
	Log           *slog.Logger
}

// Run fetches everything. An entry is a file, or a directory of which all files
// are taken. An entry that is neither is an error that names it.
func (fetcher *Fetcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetcher.Configuration.Timeout)
	defer cancel()
	if err := os.MkdirAll(fetcher.Configuration.Target, 0o755); err != nil {
		return fmt.Errorf("making the directory for the files: %w", err)
	}
	root, err := os.OpenRoot(fetcher.Configuration.Target)
	if err != nil {
		return fmt.Errorf("opening the directory for the files: %w", err)
	}
	defer func() { _ = root.Close() }()
	for _, entry := range fetcher.Configuration.Files {
		if err := fetcher.fetch(ctx, root, entry); err != nil {
			return err
		}
	}
	return nil
}

func (fetcher *Fetcher) fetch(ctx context.Context, root *os.Root, entry string) error {
	name := strings.Trim(entry, "/")
	content, err := fetcher.file(ctx, name)
	if err == nil {
		return fetcher.write(root, name, content)
	}
	if !errors.Is(err, files.ErrNotFound) {
		return fmt.Errorf("fetching %s: %w", entry, err)
	}
	paths, err := patiently(ctx, fetcher.Log, func(ctx context.Context) ([]string, error) {
		return fetcher.Gateway.Paths(ctx, fetcher.Configuration.Grant, files.ServiceLevel)
	})
	if err != nil {
		return fmt.Errorf("listing the files: %w", err)
	}
	found := false
	for _, path := range paths {
		if name != "" && !strings.HasPrefix(path, name+"/") {
			continue
		}
		content, err := fetcher.file(ctx, path)
		if errors.Is(err, files.ErrNotFound) {
			// Keptn lists the newest commit, whatever commit is asked for: this file was added
			// after the event's.
			fetcher.Log.InfoContext(ctx, "a file of the newest commit is not there at the event's", "path", path)
			continue
		}
		if err != nil {
			return fmt.Errorf("fetching %s: %w", path, err)
		}
		found = true
		if err := fetcher.write(root, path, content); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("could not find file or directory %s in the files of the service", entry)
	}
	return nil
}

func (fetcher *Fetcher) file(ctx context.Context, path string) ([]byte, error) {
	content, err := patiently(ctx, fetcher.Log, func(ctx context.Context) ([]byte, error) {
		return fetcher.Gateway.File(ctx, fetcher.Configuration.Grant, files.ServiceLevel, path, files.MaxFileBytes)
	})
	if err == nil && len(content) > files.MaxFileBytes {
		return nil, fmt.Errorf("it has more than %d bytes", files.MaxFileBytes)
	}
	return content, err
}

func (fetcher *Fetcher) write(root *os.Root, name string, content []byte) error {
	// The task's container may run as any user.
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("making the directory of %s: %w", name, err)
	}
	if err := root.WriteFile(name, content, 0o644); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	fetcher.Log.Info("file fetched", "path", filepath.Join(fetcher.Configuration.Target, name), "bytes", len(content))
	return nil
}

// patiently asks the bridge, and again while it is not there or Keptn is not.
func patiently[Answer any](ctx context.Context, log *slog.Logger, ask func(context.Context) (Answer, error)) (Answer, error) {
	return function.Retry(ctx, log, func(ctx context.Context) (Answer, error) {
		answer, err := ask(ctx)
		if status, ok := errors.AsType[*files.StatusError](err); errors.Is(err, files.ErrNotFound) || ok && !status.IsTemporary() {
			err = function.Permanent(err)
		}
		return answer, err
	})
}
