package jobconfig

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// What one file may take of the executor, which is everybody's.
const (
	maxTasks = 1000
	// maxPatternBytes and maxPatternSize bound a regular expression: its text, and the
	// instructions that it compiles to.
	maxPatternBytes = 512
	maxPatternSize  = 5000
	// maxPatternsSize bounds those of all of a file.
	maxPatternsSize = 50000
	// maxPathBytes and maxPathWildcards bound a JSONPath: each wildcard multiplies what
	// it selects.
	maxPathBytes     = 512
	maxPathWildcards = 2
)

// compile compiles an event's name after it was measured.
func compile(pattern string) (compiled *regexp.Regexp, size int, err error) {
	if len(pattern) > maxPatternBytes {
		return nil, 0, fmt.Errorf("it has %d characters, more than %d", len(pattern), maxPatternBytes)
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, 0, err
	}
	if size = sizeOf(parsed); size > maxPatternSize {
		return nil, 0, errors.New("its repetitions are too large")
	}
	compiled, err = regexp.Compile(pattern)
	return compiled, size, err
}

// sizeOf estimates how many instructions a regular expression compiles to, without
// compiling it.
func sizeOf(parsed *syntax.Regexp) int {
	size := 1 + len(parsed.Rune)
	for _, part := range parsed.Sub {
		size = min(size+sizeOf(part), 10*maxPatternSize)
	}
	if parsed.Op == syntax.OpRepeat {
		size = min(size*max(parsed.Max, parsed.Min, 1), 10*maxPatternSize)
	}
	return size
}

// checkPath refuses a JSONPath that could select too much.
func checkPath(path string) error {
	if len(path) > maxPathBytes {
		return fmt.Errorf("JSONPath has %d characters, more than %d", len(path), maxPathBytes)
	}
	if strings.Count(path, "..") > 1 || strings.Count(path, "*")+strings.Count(path, "..") > maxPathWildcards {
		return fmt.Errorf("JSONPath %s has more than one .. or more than %d wildcards", path, maxPathWildcards)
	}
	return nil
}

// checkBounds refuses a file that asks for too much, before anything is evaluated.
func (config *Config) checkBounds() error {
	tasks := 0
	for index := range config.Actions {
		action := &config.Actions[index]
		tasks += len(action.Tasks)
		for _, event := range action.Events {
			if err := checkPath(event.JSONPath.Property); err != nil {
				return fmt.Errorf("action %q: %w", action.Name, err)
			}
		}
		for _, task := range action.Tasks {
			for _, env := range task.Env {
				if env.ValueFrom != ValueFromEvent {
					continue
				}
				if err := checkPath(env.Value); err != nil {
					return fmt.Errorf("action %q, task %q: env %s: %w", action.Name, task.Name, env.Name, err)
				}
			}
		}
	}
	if tasks > maxTasks {
		return fmt.Errorf("it has %d tasks, more than %d", tasks, maxTasks)
	}
	return nil
}
