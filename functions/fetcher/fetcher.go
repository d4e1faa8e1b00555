package fetcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/job-executor/job-executor/functions/function"
)

// Configuration is what the Job tells its init container.
type Configuration struct {
	// Files is a JSON list of the files and directories to be fetched.
	Files Paths `envconfig:"FILES" required:"true"`
	// Target is the directory below which they are written.
	Target string `envconfig:"TARGET" default:"/keptn"`
	// BridgeURL is the bridge's address.
	BridgeURL string `envconfig:"BRIDGE_URL" required:"true"`
	// Grant allows to read the files of the task's service.
	Grant string `envconfig:"GRANT" required:"true"`
	// Timeout bounds everything together.
	Timeout time.Duration `envconfig:"TIMEOUT" default:"2m"`
}

// Paths is a JSON list of paths in an environment variable.
type Paths []string

// Decode implements envconfig.Decoder.
func (paths *Paths) Decode(value string) error {
	return json.Unmarshal([]byte(value), (*[]string)(paths))
}

// Fetcher writes files that it gets from the bridge.
type Fetcher struct {
	Configuration Configuration
	HTTP          *http.Client
	Log           *slog.Logger
}

const (
	maxListingBytes = 16 << 20
	maxFileBytes    = 64 << 20
	firstPause      = 250 * time.Millisecond
	lastPause       = 15 * time.Second
	// CallTimeout bounds one call of the bridge. It is longer than that waits for Keptn.
	CallTimeout = 50 * time.Second
)

var errNotFound = errors.New("not found")

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
	content, err := fetcher.get(ctx, url.Values{"path": {name}}, maxFileBytes)
	if err == nil {
		return fetcher.write(root, name, content)
	}
	if !errors.Is(err, errNotFound) {
		return fmt.Errorf("fetching %s: %w", entry, err)
	}
	listing, err := fetcher.get(ctx, url.Values{}, maxListingBytes)
	if err != nil {
		return fmt.Errorf("listing the files: %w", err)
	}
	var paths []string
	if err := json.Unmarshal(listing, &paths); err != nil {
		return fmt.Errorf("reading the list of files: %w", err)
	}
	found := false
	for _, path := range paths {
		if name != "" && !strings.HasPrefix(path, name+"/") {
			continue
		}
		content, err := fetcher.get(ctx, url.Values{"path": {path}}, maxFileBytes)
		if errors.Is(err, errNotFound) {
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

// get asks the bridge, and again while it is not there or Keptn is not.
func (fetcher *Fetcher) get(ctx context.Context, query url.Values, maxBytes int64) ([]byte, error) {
	query.Set("level", "service")
	address := fetcher.Configuration.BridgeURL + "/resource?" + query.Encode()
	var last error
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		if last != nil {
			fetcher.Log.WarnContext(ctx, "a file can't be had yet, will be tried again", "pause", pause.String(), "error", last)
			select {
			case <-ctx.Done():
				return nil, errors.Join(last, context.Cause(ctx))
			case <-time.After(pause):
			}
		}
		content, status, _, err := function.Fetch(ctx, fetcher.HTTP, http.MethodGet, address, nil, fetcher.Configuration.Grant, maxBytes)
		switch {
		case err != nil:
			last = fmt.Errorf("asking the bridge: %w", err)
		case status == http.StatusOK && int64(len(content)) > maxBytes:
			return nil, fmt.Errorf("it has more than %d bytes", maxBytes)
		case status == http.StatusOK:
			return content, nil
		case status == http.StatusNotFound:
			return nil, errNotFound
		default:
			last = fmt.Errorf("the bridge answered %d: %s", status, strings.TrimSpace(string(content)))
			if status < http.StatusInternalServerError && status != http.StatusTooManyRequests {
				return nil, last
			}
		}
	}
}
