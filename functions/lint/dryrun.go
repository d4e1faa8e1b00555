package lint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/trace/noop"
	"go.yaml.in/yaml/v4"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/job-executor/job-executor/functions/executor"
	"github.com/job-executor/job-executor/functions/executor/plan"
	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/podsecurity"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
)

// dryRun shows what an event causes, without a cluster.
type dryRun struct {
	event, settings, podSecurity string
	secrets, accounts            []string
}

// show writes the Jobs that an event creates, or why it creates none.
func (d *dryRun) show(ctx context.Context, input io.Reader, output io.Writer, s source) error {
	content, err := contentOf(input, d.event, maxEventBytes)
	if err != nil {
		return err
	}
	triggered, err := keptn.DecodeEvent(completed(content))
	if err != nil {
		return fmt.Errorf("read the event in %s: %w", d.event, err)
	}
	eventType := triggered.Type()
	if task, err := keptn.ParseEvent(triggered); err == nil && task.Observed {
		triggered = keptn.Observed(triggered)
	}
	configuration, err := d.configuration(input)
	if err != nil {
		return err
	}
	level, err := podsecurity.ParseLevel(d.podSecurity)
	if err != nil {
		return fmt.Errorf("--pod-security: %w", err)
	}
	created := &jobs{}
	runner := &executor.Executor{
		Files: configFile(s.content), Jobs: created, Cluster: d.cluster(configuration, level), Configuration: configuration,
		Tracer: noop.NewTracerProvider().Tracer(""), Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	reply, err := runner.Handle(ctx, triggered)
	if err != nil {
		return fmt.Errorf("the event in %s: %w", d.event, err)
	}
	if len(created.all) == 0 && reply != nil {
		answer, err := protocol.ParseAnswer(*reply)
		if err != nil {
			return fmt.Errorf("read the answer to the event: %w", err)
		}
		message := answer.Outcome.Message
		if _, err := fmt.Fprintf(output, "# %s makes no Jobs: %s\n", eventType, strings.ReplaceAll(message, "\n", "\n# ")); err != nil {
			return err
		}
		if regexp.MustCompile(`Secret \S+ (does not exist|in namespace)`).MatchString(message) {
			if _, err := fmt.Fprintln(output, "# Name the Secrets that exist with --secret NAME=KEY,OTHER."); err != nil {
				return err
			}
		}
		if answer.Outcome.Status == keptn.StatusErrored {
			return ErrFound
		}
		return nil
	}
	run.Sort(created.all)
	for index := range created.all {
		if err := write(output, eventType, &created.all[index]); err != nil {
			return err
		}
	}
	return nil
}

// completed adds the attributes that all of Keptn's events have, so that a handwritten event can omit them.
func completed(content []byte) []byte {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(content, &members); err != nil {
		return content // its mistake is reported later
	}
	for name, value := range map[string]string{
		"specversion": event.CloudEventsVersionV1, "id": "00000000-0000-4000-8000-000000000000", "source": tool,
		"shkeptncontext": "00000000-0000-4000-8000-000000000001",
	} {
		if _, given := members[name]; !given {
			members[name], _ = json.Marshal(value) // text always encodes
		}
	}
	content, _ = json.Marshal(members) // it was decoded from JSON
	return content
}

// write writes a Job as a YAML document.
func write(output io.Writer, eventType string, job *batchv1.Job) error {
	job.APIVersion, job.Kind = "batch/v1", "Job"
	content, err := sigsyaml.Marshal(job)
	if err != nil {
		return fmt.Errorf("encode Job %s: %w", job.Name, err)
	}
	_, err = fmt.Fprintf(output, "---\n# %s runs task %q of action %q\n%s",
		eventType, job.Annotations[run.TaskNameAnnotation], job.Annotations[run.ActionNameAnnotation], content)
	return err
}

// configuration returns the executor's configuration: its defaults, and the settings of a file.
func (d *dryRun) configuration(input io.Reader) (executor.Configuration, error) {
	environment := map[string]string{
		"JOB_NAMESPACES": "job-executor-jobs", "INSTALLATION": "job-executor", "FETCHER_IMAGE": "fetcher", "BRIDGE_URL": "http://bridge", "BRIDGE_TOKEN_FILE": "none",
	}
	if d.settings != "" {
		content, err := contentOf(input, d.settings, maxEventBytes)
		if err != nil {
			return executor.Configuration{}, err
		}
		decoder := yaml.NewDecoder(bytes.NewReader(content))
		for {
			var document struct {
				Kind string
				Data map[string]string
			}
			if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return executor.Configuration{}, fmt.Errorf("read the settings in %s: %w", d.settings, err)
			}
			if document.Kind == "ConfigMap" {
				maps.Copy(environment, document.Data)
			}
		}
	}
	// The command line names objects because tasks may use them.
	environment["ALLOWED_SECRETS"], environment["ALLOWED_SERVICE_ACCOUNTS"] = "*", "*"
	configuration, err := function.Configure[executor.Configuration](environment)
	if err != nil {
		return executor.Configuration{}, fmt.Errorf("the settings in %s: %w", d.settings, err)
	}
	return configuration, nil
}

// cluster has the Secrets and service accounts of the command line, and those of every installation.
func (d *dryRun) cluster(configuration executor.Configuration, level podsecurity.Level) cluster {
	created := cluster{secrets: map[string][]string{}, accounts: append(slices.Clone(d.accounts), configuration.ServiceAccount, "default"), level: level}
	for _, secret := range d.secrets {
		name, keys, _ := strings.Cut(secret, "=")
		created.secrets[name] = strings.FieldsFunc(keys, func(char rune) bool { return char == ',' })
		slices.Sort(created.secrets[name])
	}
	return created
}

type cluster struct {
	secrets  map[string][]string
	accounts []string
	level    podsecurity.Level
}

func (c cluster) Secret(_ context.Context, _, name string) (*plan.Object, error) {
	keys, found := c.secrets[name]
	if !found {
		return nil, nil
	}
	return &plan.Object{Keys: keys}, nil
}

func (c cluster) ServiceAccount(_ context.Context, _, name string) (*plan.Object, error) {
	if !slices.Contains(c.accounts, name) {
		return nil, nil
	}
	return &plan.Object{}, nil
}

// RefusesPod applies the level of the command line.
func (c cluster) RefusesPod(_ context.Context, _ string, spec *corev1.PodSpec) (string, error) {
	why, err := podsecurity.Refusal(c.level, spec)
	if why != "" {
		why = "it " + why
	}
	return why, err
}

// configFile is the only file.
type configFile []byte

func (c configFile) Configuration(context.Context, event.Event) (executor.File, error) {
	return executor.File{Content: c, Grant: files.Grant{Token: "(a grant)"}}, nil
}

func (c configFile) Grant(context.Context, event.Event) (files.Grant, error) {
	return files.Grant{}, nil
}

// jobs collects the created Jobs.
type jobs struct{ all []batchv1.Job }

func (j *jobs) List(context.Context, string) ([]batchv1.Job, error) { return nil, nil }

func (j *jobs) Create(_ context.Context, job *batchv1.Job) (*batchv1.Job, error) {
	j.all = append(j.all, *job.DeepCopy())
	return job, nil
}

func (j *jobs) Delete(context.Context, *batchv1.Job) error { return nil }
