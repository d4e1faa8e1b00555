package lint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/job-executor/job-executor/functions/jobconfig"
)

// Severity is the severity of a finding.
type Severity string

// The severities.
const (
	// Error is a mistake: the task would end as errored.
	Error Severity = "error"
	// Warning works, but is probably not intended.
	Warning Severity = "warning"
)

// Finding is a mistake or warning in a file.
type Finding struct {
	File string `json:"file"`
	// Line and Column start at 1.
	Line     int      `json:"line"`
	Column   int      `json:"column"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
}

// maxEntries bounds the files and directories of a folder.
const maxEntries = 100_000

// stdin is the name of the standard input.
const stdin = "-"

// source is a file to check.
type source struct {
	name    string
	content []byte
}

// read reads files. In a folder, it reads each job/config.yaml below; - is the standard input. Without names, it reads the
// working directory. Its error names the unreadable file.
func read(input io.Reader, names []string) (sources []source, err error) {
	if len(names) == 0 {
		names = []string{"."}
	}
	for _, name := range names {
		paths := []string{name}
		if info, err := os.Stat(name); name != stdin && err == nil && info.IsDir() {
			if paths, err = configurations(name); err != nil {
				return nil, err
			}
		}
		for _, path := range paths {
			content, err := contentOf(input, path, maxFileBytes)
			if err != nil {
				return nil, err
			}
			sources = append(sources, source{path, content})
		}
	}
	return sources, nil
}

// Content returns the content of a file; - is the standard input.
func Content(input io.Reader, name string) ([]byte, error) {
	return contentOf(input, name, maxFileBytes)
}

// Contents returns the content of each file, and of each job/config.yaml in folders, by its name.
func Contents(input io.Reader, names []string) (map[string][]byte, error) {
	sources, err := read(input, names)
	contents := map[string][]byte{}
	for _, source := range sources {
		contents[source.name] = source.content
	}
	return contents, err
}

const (
	// maxFileBytes exceeds the limit of a configuration, so that messages have the real size.
	maxFileBytes = 16 << 20
	// maxEventBytes is the largest event that functions accept.
	maxEventBytes = 4 << 20
)

// contentOf returns the content of a file, up to a number of bytes.
func contentOf(input io.Reader, path string, most int64) (content []byte, err error) {
	if path != stdin {
		file, err := os.Open(path) //nolint:gosec // the user's file
		if err != nil {
			return nil, fmt.Errorf("read the file: %w", err)
		}
		defer func() { _ = file.Close() }()
		input = file
	}
	content, err = io.ReadAll(io.LimitReader(input, most+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(content)) > most {
		return nil, fmt.Errorf("read %s: more than %d bytes", path, most)
	}
	return content, nil
}

// configurations returns all job/config.yaml below a directory, or the one in the directory job itself.
func configurations(directory string) (paths []string, err error) {
	entries := 0
	err = filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if entries++; entries > maxEntries {
			return fmt.Errorf("there are more than %d files", maxEntries)
		}
		absolute, _ := filepath.Abs(path)
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case !entry.IsDir() && strings.HasSuffix(filepath.ToSlash(absolute), "/"+jobconfig.Path):
			paths = append(paths, path)
		}
		return nil
	})
	if err == nil && len(paths) == 0 {
		err = errors.New("there is no " + jobconfig.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("look into %s: %w", directory, err)
	}
	return paths, nil
}

// findingsOf returns the mistakes and warnings of a configuration in the order of the file.
func findingsOf(name string, config *jobconfig.Config) (findings []Finding) {
	for severity, mistakes := range map[Severity]jobconfig.Mistakes{Error: config.All(), Warning: config.Warnings} {
		for _, mistake := range mistakes {
			findings = append(findings, Finding{name, max(mistake.Line, 1), max(mistake.Column, 1), severity, mistake.Text})
		}
	}
	slices.SortFunc(findings, func(one, other Finding) int {
		return slices.Compare([]int{one.Line, one.Column, len(one.Severity)}, []int{other.Line, other.Column, len(other.Severity)})
	})
	if more := len(findings) - maxFindings; more > 0 {
		last := findings[maxFindings-1]
		findings = append(findings[:maxFindings], Finding{name, last.Line, last.Column, Error, fmt.Sprintf("%d more mistakes are not shown", more)})
	}
	return findings
}

// maxFindings bounds the reported mistakes of a file.
const maxFindings = 100
