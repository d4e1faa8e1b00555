package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/job-executor/job-executor/functions/cli/jaeger"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// jaegerVariable names Jaeger, as --jaeger does.
const jaegerVariable = "JAEGER_URL"

func (c *commander) trace() *cobra.Command {
	var address string
	var open, all bool
	command := &cobra.Command{
		Use: "trace CONTEXT", Short: "Draw the trace of a sequence, or open it in Jaeger", GroupID: groupRuns, Args: cobra.ExactArgs(1),
		Long: "Draws the spans of a sequence as a tree with durations. Jaeger is an address, or a Service of the cluster as NAMESPACE/NAME:PORT, which\n" +
			"is reached through the API server.",
		Example: "  job-executor trace 4ed578f6-1e1e-4a11-9b2e-9a7111760f5b --jaeger observability/jaeger:16686\n" +
			"  job-executor trace 4ed578f6-1e1e-4a11-9b2e-9a7111760f5b --jaeger https://jaeger.example.com --open",
		RunE: func(command *cobra.Command, arguments []string) error {
			ctx := command.Context()
			keptnContext, link, err := c.traceOf(ctx, arguments[0])
			if err != nil {
				return err
			}
			traceID := telemetry.TraceID(keptnContext).String()
			if address == "" {
				address = c.Getenv(jaegerVariable)
			}
			if base, _, isLink := strings.Cut(link, "/trace/"); address == "" && isLink {
				address = base
			}
			if address == "" {
				return fmt.Errorf("set --jaeger or %s to Jaeger's address, or to its Service as NAMESPACE/NAME:PORT", jaegerVariable)
			}
			if open {
				if link == "" || command.Flags().Changed("jaeger") {
					link = strings.TrimSuffix(address, "/") + "/trace/" + traceID
				}
				if target, err := url.Parse(link); err != nil || target.Scheme != "http" && target.Scheme != "https" {
					return fmt.Errorf("--open needs Jaeger's web address, not %q; name it with --jaeger", link) // a run's label may name a program
				}
				return c.Open(ctx, link)
			}
			content, err := c.askJaeger(ctx, address, "/api/traces/"+traceID)
			if err != nil {
				return fmt.Errorf("ask Jaeger for the trace of context %s: %w", keptnContext, err)
			}
			traces, err := jaeger.Parse(content)
			if err != nil {
				return err
			}
			if len(traces) == 0 {
				return fmt.Errorf("Jaeger has no trace of context %s", keptnContext)
			}
			return c.drawTrace(traces[0], all)
		},
	}
	flags := command.Flags()
	flags.StringVar(&address, "jaeger", "", "Jaeger's address, or NAMESPACE/NAME:PORT of its Service; default "+jaegerVariable+", or where the run's link leads")
	flags.BoolVar(&open, "open", false, "open the trace in your browser")
	flags.BoolVar(&all, "all", false, "also draw the spans of Knative and others")
	return command
}

func (c *commander) drawTrace(spans []jaeger.Span, all bool) error {
	keep := jaeger.IsOurs
	if all {
		keep = func(jaeger.Span) bool { return true }
	}
	ours := jaeger.OfOurs(spans)
	if _, err := fmt.Fprintf(harmless{c.Out}, "%s\n%d spans, and %d of Knative and others.\n", jaeger.Tree(spans, keep), len(ours), len(spans)-len(ours)); err != nil {
		return err
	}
	if jaeger.IsWhole(ours) {
		return nil
	}
	_, err := fmt.Fprintln(c.Out, "Some parents are missing: the sequence has not ended, or its functions have not exported their spans yet.")
	return err
}

// traceOf returns the whole Keptn context, and the link to its trace, if a run has one. A trace outlives the Jobs.
func (c *commander) traceOf(ctx context.Context, argument string) (keptnContext, link string, err error) {
	_, runs, err := c.runsOf(ctx, argument)
	if err == nil {
		return runs[0].Task.Context, runs[0].Task.Labels[traceLabel], nil
	}
	if uuid.Validate(argument) == nil {
		return argument, "", nil
	}
	return "", "", err
}

// maxTraceBytes bounds Jaeger's answer.
const maxTraceBytes = 64 << 20

// askJaeger returns Jaeger's answer to a query.
func (c *commander) askJaeger(ctx context.Context, address, path string) ([]byte, error) {
	if !strings.Contains(address, "://") {
		return c.askService(ctx, address, path)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := (&http.Client{Transport: c.Transport, Timeout: keptnTimeout}).Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxTraceBytes))
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return content, err
}

// askService asks a Service, as NAMESPACE/NAME:PORT, through the API server.
func (c *commander) askService(ctx context.Context, address, path string) ([]byte, error) {
	namespace, rest, isService := strings.Cut(address, "/")
	name, port, hasPort := strings.Cut(rest, ":")
	if !isService || !hasPort {
		return nil, fmt.Errorf("%q is neither an address nor NAMESPACE/NAME:PORT", address)
	}
	clients, _, err := c.connect()
	if err != nil {
		return nil, err
	}
	return clients.Kubernetes.CoreV1().Services(namespace).ProxyGet("http", name, port, path, nil).DoRaw(ctx)
}
