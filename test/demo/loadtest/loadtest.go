package loadtest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Run loads the host of locust's command line like locust with the example: each user requests the front page
// at a constant rate. It returns locust's exit code, 1 if any request failed.
func Run(ctx context.Context, arguments []string, output io.Writer) int {
	settings, err := read(arguments)
	if err != nil {
		_, _ = fmt.Fprintln(output, "loadtest:", err)
		return 1
	}
	_, _ = fmt.Fprintf(output, "locust is not installed here; a small load generator stands in for it\n%d users, %s, %s\n\n", settings.users, settings.runTime, settings.host)
	ctx, cancel := context.WithTimeout(ctx, settings.runTime)
	defer cancel()
	var r results
	var group sync.WaitGroup
	for range settings.users {
		group.Go(func() { visit(ctx, settings.host, &r) })
	}
	group.Wait()
	r.print(output, settings.runTime)
	if r.failures > 0 || len(r.durations) == 0 {
		return 1
	}
	return 0
}

type settings struct {
	host    string
	users   int
	runTime time.Duration
}

// Limits of a configuration.
const (
	maxUsers   = 100
	maxRunTime = 5 * time.Minute
	// requestsPerSecond is constant_throughput of the example's user.
	requestsPerSecond = 20
)

func read(arguments []string) (settings, error) {
	options := map[string]string{"users": "1", "run-time": "5s"}
	given := map[string]string{}
	for index := 0; index+1 < len(arguments); index++ {
		if name, ok := strings.CutPrefix(arguments[index], "--"); ok {
			given[name] = arguments[index+1]
		}
	}
	if path := given["config"]; path != "" {
		file, err := os.Open(path) //nolint:gosec // the task's own file
		if err != nil {
			return settings{}, fmt.Errorf("read the configuration: %w", err)
		}
		defer func() { _ = file.Close() }()
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if name, value, ok := strings.Cut(lines.Text(), "="); ok {
				options[strings.TrimSpace(name)] = strings.TrimSpace(value)
			}
		}
	}
	for name, value := range given {
		options[name] = value
	}
	users, err := strconv.Atoi(options["users"])
	if err != nil || users < 1 || users > maxUsers {
		return settings{}, fmt.Errorf("users = %s: use 1 to %d", options["users"], maxUsers)
	}
	runTime, err := time.ParseDuration(options["run-time"])
	if err != nil || runTime <= 0 || runTime > maxRunTime {
		return settings{}, fmt.Errorf("run-time = %s: use up to %s", options["run-time"], maxRunTime)
	}
	if options["host"] == "" {
		return settings{}, fmt.Errorf("no host is given")
	}
	return settings{host: options["host"], users: users, runTime: runTime}, nil
}

type results struct {
	mutex     sync.Mutex
	durations []time.Duration
	failures  int
}

func visit(ctx context.Context, host string, r *results) {
	ticker := time.NewTicker(time.Second / requestsPerSecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.request(ctx, host)
		}
	}
}

func (r *results) request(ctx context.Context, host string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, host+"/", nil)
	began := time.Now()
	var response *http.Response
	if err == nil {
		response, err = http.DefaultClient.Do(request)
	}
	if ctx.Err() != nil {
		return
	}
	status := 0
	if err == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20)) //nolint:mnd // a megabyte of a page is enough
		_ = response.Body.Close()
		status = response.StatusCode
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.durations = append(r.durations, time.Since(began))
	if status != http.StatusOK {
		r.failures++
	}
}

func (r *results) print(output io.Writer, runTime time.Duration) {
	slices.Sort(r.durations)
	percentile := func(percent int) string {
		if len(r.durations) == 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f", float64(r.durations[(len(r.durations)-1)*percent/100].Microseconds())/1000) //nolint:mnd // percent, microseconds
	}
	_, _ = fmt.Fprintf(output, "%-8s %-8s %8s %8s | %8s %8s %8s %8s\n", "Type", "Name", "# reqs", "# fails", "median", "95%", "max", "req/s")
	_, _ = fmt.Fprintf(output, "%-8s %-8s %8d %8d | %8s %8s %8s %8.1f\n", "GET", "/", len(r.durations), r.failures,
		percentile(50), percentile(95), percentile(100), float64(len(r.durations))/runTime.Seconds()) //nolint:mnd // percentiles
	_, _ = fmt.Fprintln(output, "\n(response times in milliseconds)")
}
