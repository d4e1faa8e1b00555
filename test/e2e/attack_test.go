//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
)

// attack is a request that a container makes which is not to have any effect.
type attack struct {
	name, url string
	// headers and body are its; without a body it is a GET.
	headers []string
	body    string
}

const (
	brokerURL = "http://broker-ingress.knative-eventing.svc.cluster.local/job-executor/keptn"
	bridgeURL = "http://bridge.job-executor.svc.cluster.local"
)

// forged is an event that nobody has signed, for the Broker or for a function itself.
func forged(name, url, eventType string, data any, attributes ...string) attack {
	content, _ := json.Marshal(data)
	headers := []string{
		"Ce-Specversion: 1.0", "Ce-Id: forged-" + strings.ReplaceAll(name, " ", "-"), "Ce-Source: job-executor", "Ce-Type: " + eventType,
		"Content-Type: application/json",
	}
	for index := 0; index < len(attributes); index += 2 {
		headers = append(headers, "Ce-"+attributes[index]+": "+attributes[index+1])
	}
	return attack{name, url, headers, string(content)}
}

// attacksOn are what others may try with a run, whose grant they have read in its Job.
func attacksOn(project, keptnContext string, triggered console.Event, job *batchv1.Job) []attack {
	id := triggered.ID
	keptnEvent := func(name, url, eventType string, data map[string]any, attributes ...string) attack {
		all := map[string]any{"project": project, "stage": stage, "service": service}
		for key, value := range data {
			all[key] = value
		}
		return forged(name, url, eventType, all, append([]string{"Shkeptncontext", keptnContext, "Keptntask", "test"}, attributes...)...)
	}
	notice := func(name, eventType string, notice run.Notice) attack {
		notice.RunID = run.ID(id)
		notice.Task = json.RawMessage(job.Annotations[run.TaskAnnotation])
		return forged(name, brokerURL, eventType, notice)
	}
	errored := map[string]any{"status": "errored", "result": "fail", "message": "forged"}
	grant := ""
	for _, variable := range job.Spec.Template.Spec.InitContainers[0].Env {
		if variable.Name == "GRANT" {
			grant = variable.Value
		}
	}
	return []attack{
		keptnEvent("finished", brokerURL, keptn.TypeOf("test", keptn.Finished), errored, "Triggeredid", id),
		keptnEvent("started", brokerURL, keptn.TypeOf("test", keptn.Started), nil, "Triggeredid", id),
		keptnEvent("log", brokerURL, "sh.keptn.log.error", map[string]any{"message": "forged"}, "Triggeredid", id),
		keptnEvent("finished at the bridge", bridgeURL+"/keptn", keptn.TypeOf("test", keptn.Finished), errored, "Triggeredid", id),
		keptnEvent("undelivered", bridgeURL+"/undelivered", keptn.TypeOf("test", keptn.Triggered), nil, "Knativeerrorcode", "500"),
		keptnEvent("triggered", brokerURL, keptn.TypeOf("test", keptn.Triggered), nil),
		notice("cancelled", run.CancelledType, run.Notice{}),
		notice("reported", run.ReportedType, run.Notice{}),
		notice("awaited", run.AwaitedType, run.Notice{Reason: "forged"}),
		notice("completed", run.CompletedType, run.Notice{Job: job.Name, Deleted: true}),
		notice("active", run.ActiveType, run.Notice{Begun: true, Ended: true}),
		{name: "a file with a grant", url: bridgeURL + "/resource?level=service&path=job/config.yaml", headers: []string{"Grant: " + grant}},
		{
			name: "a file with a grant as a token", url: bridgeURL + "/resource?level=service&path=job/config.yaml",
			headers: []string{"Grant: " + grant, "Authorization: Bearer " + grant},
		},
		keptnEvent("a grant", bridgeURL+"/grant?namespace="+system.JobsNamespace, keptn.TypeOf("test", keptn.Triggered), nil),
	}
}

// script makes the requests from a container, and prints what is answered.
func script(attacks []attack) string {
	var text strings.Builder
	for _, attack := range attacks {
		fmt.Fprintf(&text, "echo '== %s'\nwget -q -S -O - -T 20", attack.name)
		for _, header := range attack.headers {
			fmt.Fprintf(&text, " --header '%s'", header)
		}
		if attack.body != "" {
			fmt.Fprintf(&text, " --post-data '%s'", attack.body)
		}
		fmt.Fprintf(&text, " '%s' 2>&1 || true\n", attack.url)
	}
	return text.String()
}

// Somebody who can run containers in the Jobs' namespace, and knows all of a task, can neither
// end nor stop it, nor run anything in its name, nor read its files.
func TestAttacksFromAContainer(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	project, keptnContext := begin(t, installed, []string{"test"}, map[string]string{"job/config.yaml": `apiVersion: v2
actions:
  - name: Wait
    event: test.triggered
    files: [job]
    image: busybox
    cmd: [sh, -c, "until [ -e /keptn/ended ]; do sleep 1; done; echo what it says itself"]
`})
	triggered := triggeredEvent(t, installed, keptnContext, "test")
	var victim *batchv1.Job
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		jobs, err := installed.Jobs(ctx, keptnContext)
		if err == nil && (len(jobs) != 1 || jobs[0].Status.Ready == nil || *jobs[0].Status.Ready == 0) {
			return fmt.Errorf("of %d Jobs the first does not run yet", len(jobs))
		}
		if err == nil {
			victim = &jobs[0]
		}
		return err
	}))
	tried := tryAll(t, installed, attacksOn(project, keptnContext, triggered, victim))
	t.Log(tried)
	for _, answer := range []string{"401", "202"} {
		if !strings.Contains(tried, answer) {
			t.Errorf("nothing was answered with %s", answer)
		}
	}
	if strings.Contains(tried, "apiVersion") {
		t.Error("a file was read")
	}
	must(t, installed.EndWaiting(t.Context(), victim))
	stageState, events := end(t, installed, project, keptnContext)
	compare(t, "stage", "succeeded", stageState)
	compare(t, "events", []summary{{Type: "test.started"}, {"test.finished", "succeeded", "pass"}}, summaries(events))
	contains(t, events[len(events)-1].Data.Message, "what it says itself")
	jobs, err := installed.Jobs(t.Context(), keptnContext)
	must(t, err)
	compare(t, "Jobs", 1, len(jobs))
	// The Job is reported in the end, since the bridge says so.
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		jobs, err := installed.Jobs(ctx, keptnContext)
		if err == nil && !run.IsReported(&jobs[0]) {
			err = fmt.Errorf("Job %s is not reported", jobs[0].Name)
		}
		return err
	}))
}

// tryAll tries attacks from a container in the Jobs' namespace, and returns what was answered.
func tryAll(t *testing.T, installed *system.Installation, attacks []attack) string {
	t.Helper()
	pods := installed.Kubernetes.CoreV1().Pods(system.JobsNamespace)
	made, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "attacker-"},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: new(false),
			Containers: []corev1.Container{{Name: "attacker", Image: "busybox", Command: []string{"sh", "-c", script(attacks)}}},
		},
	}, metav1.CreateOptions{})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		_ = pods.Delete(ctx, made.Name, metav1.DeleteOptions{})
	})
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		pod, err := pods.Get(ctx, made.Name, metav1.GetOptions{})
		if err == nil && pod.Status.Phase != corev1.PodSucceeded {
			err = fmt.Errorf("the attacker's pod is %s", pod.Status.Phase)
		}
		return err
	}))
	log, err := pods.GetLogs(made.Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	must(t, err)
	return string(log)
}
