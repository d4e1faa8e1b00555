package system

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/signature"
	"github.com/job-executor/job-executor/test/embedded"
)

// Leaks returns where a secret is visible: Keptn's token, or a key. It searches all output of an installation:
// logs, objects other than Secrets, Kubernetes' events, spans, and Keptn's events.
func (i *Installation) Leaks(ctx context.Context) ([]string, error) {
	secrets, err := i.secrets(ctx)
	if err != nil {
		return nil, err
	}
	var leaks []string
	look := func(where string, content []byte) {
		for name, secret := range secrets {
			if bytes.Contains(content, secret) {
				leaks = append(leaks, name+" stands in "+where)
			}
		}
	}
	for _, namespace := range []string{Namespace, JobsNamespace} {
		if err := i.lookAt(ctx, namespace, look); err != nil {
			return nil, err
		}
	}
	contexts := map[string]bool{}
	for _, service := range Functions() {
		content, traces, err := i.searched(ctx, service)
		if err != nil {
			return nil, err
		}
		look("the traces of "+service, content)
		for _, id := range traces {
			contexts[id] = true
		}
	}
	for id := range contexts {
		events, err := i.Events(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("read the events of context %s: %w", id, err)
		}
		for _, event := range events {
			look("an event of Keptn's context "+id, event.Raw)
		}
	}
	slices.Sort(leaks)
	return slices.Compact(leaks), nil
}

// secrets returns the texts that no output may contain.
func (i *Installation) secrets(ctx context.Context) (map[string][]byte, error) {
	secrets := map[string][]byte{"Keptn's token": []byte(token)}
	names := []string{embedded.GrantSecret}
	for _, name := range signature.Names() {
		names = append(names, signature.SecretOf(name))
	}
	for _, name := range names {
		secret, err := i.Kubernetes.CoreV1().Secrets(Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("read Secret %s: %w", name, err)
		}
		for key, content := range secret.Data {
			if lines := strings.Split(string(content), "\n"); len(lines) > 1 && strings.HasPrefix(lines[0], "-----BEGIN") {
				content = []byte(lines[1])
			} else {
				secrets[name+" in Base64"] = []byte(base64.StdEncoding.EncodeToString(content))
			}
			secrets[name+", "+key] = content
		}
	}
	return secrets, nil
}

// lookAt passes on a namespace's objects and the logs of its pods.
func (i *Installation) lookAt(ctx context.Context, namespace string, look func(where string, content []byte)) error {
	for _, kind := range []string{"pods", "jobs", "deployments", "configmaps", "events", "services.serving.knative.dev", "triggers", "sinkbindings"} {
		content, err := i.output(ctx, "kubectl", "get", kind, "-n", namespace, "-o", "yaml")
		if err != nil {
			return err
		}
		look(kind+" in "+namespace, content)
	}
	pods, err := i.Kubernetes.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the pods of %s: %w", namespace, err)
	}
	for _, pod := range pods.Items {
		for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			log, err := i.Kubernetes.CoreV1().Pods(namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container.Name}).DoRaw(ctx)
			if err != nil {
				continue // it has not begun, or no longer exists
			}
			look("the log of container "+container.Name+" of pod "+pod.Name, log)
		}
	}
	return nil
}

// searched returns Jaeger's newest traces with a part in a service, and their Keptn contexts.
func (i *Installation) searched(ctx context.Context, service string) (content []byte, contexts []string, err error) {
	content, err = call(ctx, i.http, "GET", i.proxy("observability", "jaeger", jaegerPort)+searchQuery(service), "application/json", nil)
	if err != nil {
		return nil, nil, err
	}
	var answer struct {
		Data []struct {
			TraceID string `json:"traceID"`
		} `json:"data"`
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		return nil, nil, fmt.Errorf("decode traces: %w", err)
	}
	for _, trace := range answer.Data {
		id, err := uuid.Parse(trace.TraceID)
		if err != nil {
			return nil, nil, fmt.Errorf("trace %s is no Keptn context: %w", trace.TraceID, err)
		}
		contexts = append(contexts, id.String())
	}
	return content, contexts, nil
}
