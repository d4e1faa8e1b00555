package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/job-executor/job-executor/test/console"
)

// Prometheus is a real Prometheus on this machine that scrapes an installation's annotated pods through the API
// server.
type Prometheus struct {
	url       string
	command   *exec.Cmd
	discovery *httptest.Server
	ended     chan error
	log       string
}

// scrapeInterval is how often pods are scraped.
const scrapeInterval = 5 * time.Second

// StartPrometheus starts a Prometheus with its files below a directory, and waits until it is ready.
func (i *Installation) StartPrometheus(ctx context.Context, directory string) (*Prometheus, error) {
	discovery := httptest.NewServer(http.HandlerFunc(i.discover))
	settings, err := scraping(i.config, discovery.URL, directory)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(directory, "prometheus.yaml")
	if err := os.WriteFile(path, settings, 0o600); err != nil {
		return nil, fmt.Errorf("configure Prometheus: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port for Prometheus: %w", err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	prometheus := &Prometheus{url: "http://" + address, discovery: discovery, ended: make(chan error, 1), log: filepath.Join(directory, "prometheus.log")}
	log, err := os.Create(prometheus.log)
	if err != nil {
		return nil, fmt.Errorf("create Prometheus' log: %w", err)
	}
	defer func() { _ = log.Close() }()
	// Not CommandContext: the context ends once it is ready.
	prometheus.command = exec.Command("prometheus", "--config.file", path, "--web.listen-address", address, //nolint:noctx,gosec // see above
		"--storage.tsdb.path", filepath.Join(directory, "data"), "--enable-feature", "exemplar-storage")
	prometheus.command.Stdout, prometheus.command.Stderr = log, log
	if err := prometheus.command.Start(); err != nil {
		return nil, fmt.Errorf("start Prometheus (Debian's package prometheus): %w", err)
	}
	go func() { prometheus.ended <- prometheus.command.Wait() }()
	err = console.Eventually(ctx, time.Minute, func(ctx context.Context) error {
		select {
		case err := <-prometheus.ended:
			prometheus.ended <- err
			content, _ := os.ReadFile(prometheus.log)
			return fmt.Errorf("it ended: %w\n%s", err, content)
		default:
		}
		_, err := prometheus.get(ctx, "/-/ready", nil)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wait for Prometheus: %w", err), prometheus.Stop())
	}
	return prometheus, nil
}

// Stop stops the Prometheus.
func (p *Prometheus) Stop() error {
	if err := p.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end Prometheus: %w", err)
	}
	<-p.ended
	p.discovery.Close()
	return nil
}

// scraping returns Prometheus' configuration, with the address of its service discovery.
func scraping(config *rest.Config, discovery, directory string) ([]byte, error) {
	server, err := url.Parse(config.Host)
	if err != nil {
		return nil, fmt.Errorf("read the API server's address: %w", err)
	}
	secure := map[string]any{"insecure_skip_verify": config.Insecure}
	write := func(name string, content []byte, file string) (string, error) {
		if len(content) == 0 {
			return file, nil
		}
		path := filepath.Join(directory, name)
		return path, os.WriteFile(path, content, 0o600)
	}
	for name, given := range map[string]struct {
		content []byte
		file    string
	}{
		"ca_file": {config.CAData, config.CAFile}, "cert_file": {config.CertData, config.CertFile}, "key_file": {config.KeyData, config.KeyFile},
	} {
		path, err := write(name, given.content, given.file)
		if err != nil {
			return nil, fmt.Errorf("write Prometheus' %s: %w", name, err)
		}
		if path != "" {
			secure[name] = path
		}
	}
	job := map[string]any{
		"job_name": "job-executor", "scheme": server.Scheme, "scrape_interval": scrapeInterval.String(), "scrape_timeout": scrapeInterval.String(),
		// Debian's Prometheus has no Kubernetes service discovery.
		"http_sd_configs": []map[string]any{{"url": discovery, "refresh_interval": scrapeInterval.String()}},
		"tls_config":      secure,
	}
	if token, err := write("token", []byte(config.BearerToken), config.BearerTokenFile); err != nil {
		return nil, fmt.Errorf("write Prometheus' token: %w", err)
	} else if token != "" {
		job["authorization"] = map[string]any{"credentials_file": token}
	}
	return yaml.Marshal(map[string]any{"scrape_configs": []any{job}})
}

// discover lists the annotated pods for Prometheus, at addresses of the API server, which forwards requests.
func (i *Installation) discover(writer http.ResponseWriter, request *http.Request) {
	pods, err := i.Kubernetes.CoreV1().Pods(Namespace).List(request.Context(), metav1.ListOptions{})
	server, parseErr := url.Parse(i.config.Host)
	if err := errors.Join(err, parseErr); err != nil {
		http.Error(writer, err.Error(), http.StatusServiceUnavailable)
		return
	}
	type target struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	found := []target{}
	for _, pod := range pods.Items {
		if pod.Annotations["prometheus.io/scrape"] == "true" && pod.Status.Phase == corev1.PodRunning {
			path := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:%s/proxy/metrics", pod.Namespace, pod.Name, pod.Annotations["prometheus.io/port"])
			found = append(found, target{[]string{server.Host}, map[string]string{"__metrics_path__": path, "pod": pod.Name}})
		}
	}
	writer.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(writer).Encode(found)
}

// Series are the values of one series of a query.
type Series struct {
	Labels map[string]string
	// Times are seconds of Unix time, and Values those at the times.
	Times, Values []float64
}

// Range evaluates a query at each scrape of a range of time, and returns the values of all series.
func (p *Prometheus) Range(ctx context.Context, query string, from, to time.Time) ([]float64, error) {
	found, err := p.Series(ctx, query, from, to, scrapeInterval)
	var values []float64
	for _, series := range found {
		values = append(values, series.Values...)
	}
	return values, err
}

// Series evaluates a query at each step of a range of time.
func (p *Prometheus) Series(ctx context.Context, query string, from, to time.Time, step time.Duration) ([]Series, error) {
	content, err := p.get(ctx, "/api/v1/query_range", url.Values{
		"query": {query}, "start": {from.Format(time.RFC3339)}, "end": {to.Format(time.RFC3339)}, "step": {step.String()},
	})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Values [][]any
			}
		}
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		return nil, fmt.Errorf("decode what Prometheus answered: %w", err)
	}
	var found []Series
	for _, result := range answer.Data.Result {
		series := Series{Labels: result.Metric}
		for _, sample := range result.Values {
			const parts = 2
			if len(sample) != parts {
				return nil, fmt.Errorf("Prometheus answered with the sample %v", sample)
			}
			at, atErr := strconv.ParseFloat(fmt.Sprint(sample[0]), 64)
			value, valueErr := strconv.ParseFloat(fmt.Sprint(sample[1]), 64)
			if err := errors.Join(atErr, valueErr); err != nil {
				return nil, fmt.Errorf("decode a sample: %w", err)
			}
			series.Times, series.Values = append(series.Times, at), append(series.Values, value)
		}
		found = append(found, series)
	}
	return found, nil
}

// ExemplarTraces returns the traces of a query's exemplars.
func (p *Prometheus) ExemplarTraces(ctx context.Context, query string, from, to time.Time) ([]string, error) {
	content, err := p.get(ctx, "/api/v1/query_exemplars", url.Values{
		"query": {query}, "start": {from.Format(time.RFC3339)}, "end": {to.Format(time.RFC3339)},
	})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data []struct {
			Exemplars []struct{ Labels map[string]string }
		}
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		return nil, fmt.Errorf("decode what Prometheus answered: %w", err)
	}
	var traces []string
	for _, series := range answer.Data {
		for _, exemplar := range series.Exemplars {
			traces = append(traces, exemplar.Labels["trace_id"])
		}
	}
	return traces, nil
}

func (p *Prometheus) get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read what Prometheus answered: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("Prometheus answered %d: %s", response.StatusCode, strings.TrimSpace(string(content)))
	}
	return content, nil
}
