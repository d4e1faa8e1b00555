//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/attack"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
)

// An attacker who runs containers in any namespace and knows everything about a task cannot end or stop the
// task, run anything in its name, or read its files.
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
	var task keptn.Task
	must(t, json.Unmarshal([]byte(victim.Annotations[run.TaskAnnotation]), &task))
	requests := attack.On(task, victim)
	for namespace, want := range map[string]map[string]string{
		// Jobs can only reach the bridge's files.
		system.JobsNamespace: {"bridge-files.": "401"},
		// Other namespaces can reach the Broker. It accepts events from everybody, unless Knative authenticates
		// senders.
		"default": {"broker-ingress.": isAuthenticated("401", "202")},
	} {
		answers, wanted := tryAll(t, installed, namespace, requests), map[string]string{}
		for _, request := range requests {
			wanted[request.Name] = "nothing"
			for host, status := range want {
				if strings.HasPrefix(request.URL, "http://"+host) {
					wanted[request.Name] = status
				}
			}
		}
		compare(t, "what was answered to a pod in namespace "+namespace, wanted, answers)
	}
	must(t, installed.Exec(t.Context(), victim, "touch", "/keptn/ended"))
	events := succeeds(t, installed, project, keptnContext)
	contains(t, events[len(events)-1].Data.Message, "what it says itself")
	jobs, err := installed.Jobs(t.Context(), keptnContext)
	must(t, err)
	compare(t, "Jobs", 1, len(jobs))
	// The Job is finally reported: the bridge says so.
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		jobs, err := installed.Jobs(ctx, keptnContext)
		if err == nil && !run.IsReported(&jobs[0]) {
			err = fmt.Errorf("Job %s is not reported", jobs[0].Name)
		}
		return err
	}))
}

// tryAll tries attacks from a container in a namespace. It returns the status of each response, by attack.
func tryAll(t *testing.T, installed *system.Installation, namespace string, attacks []attack.Request) map[string]string {
	t.Helper()
	pods := installed.Kubernetes.CoreV1().Pods(namespace)
	command := []string{"sh", "-c", attack.Script(attacks, namespace == system.JobsNamespace)}
	created, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "attacker-"},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: new(false),
			Containers: []corev1.Container{{Name: "attacker", Image: "busybox", Command: command}},
		},
	}, metav1.CreateOptions{})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		_ = pods.Delete(ctx, created.Name, metav1.DeleteOptions{})
	})
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		pod, err := pods.Get(ctx, created.Name, metav1.GetOptions{})
		if err == nil && pod.Status.Phase != corev1.PodSucceeded {
			err = fmt.Errorf("the attacker's pod is %s", pod.Status.Phase)
		}
		return err
	}))
	log, err := pods.GetLogs(created.Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	must(t, err)
	t.Logf("from namespace %s:\n%s", namespace, log)
	answers := map[string]string{}
	for _, part := range strings.Split(string(log), "== ")[1:] {
		name, answer, _ := strings.Cut(part, "\n")
		answers[name] = "nothing"
		if fields := strings.Fields(answer); len(fields) > 1 && strings.HasPrefix(fields[0], "HTTP/") {
			answers[name] = fields[1]
		}
	}
	return answers
}

// isAuthenticated returns the first value if Knative authenticates senders in all tests (AUTHENTICATION=1),
// otherwise the second.
func isAuthenticated[Value any](yes, no Value) Value {
	if os.Getenv("AUTHENTICATION") != "" {
		return yes
	}
	return no
}

// Keys are replaced as config/README.md says. Events in flight are resent until each function has read the new
// keys.
func TestKeysAreMadeAnew(t *testing.T) {
	installed := connect(t)
	before, err := installed.SigningKeys(t.Context())
	must(t, err)
	project, keptnContext := begin(t, installed, []string{"test"}, map[string]string{"job/config.yaml": `apiVersion: v2
actions:
  - name: Wait
    event: test.triggered
    image: busybox
    cmd: [sh, -c, "until [ -e /keptn/ended ]; do sleep 1; done; echo it ends under the new keys"]
`})
	jobs, _ := awaitPod(t, installed, keptnContext)
	must(t, installed.RemoveSigningKeys(t.Context()))
	must(t, installed.Restart(t.Context(), "bridge"))
	after, err := installed.SigningKeys(t.Context())
	must(t, err)
	compare(t, "functions with a key", len(before), len(after))
	for name, key := range after {
		if len(key) == 0 || bytes.Equal(key, before[name]) {
			t.Errorf("%s has %d bytes of a key, and is it another one: %t", name, len(key), !bytes.Equal(key, before[name]))
		}
	}
	must(t, console.Eventually(t.Context(), time.Minute, func(ctx context.Context) error { return installed.Exec(ctx, &jobs[0], "touch", "/keptn/ended") }))
	ends := func(project, keptnContext, says string) {
		t.Helper()
		events := succeeds(t, installed, project, keptnContext)
		contains(t, events[len(events)-1].Data.Message, says)
	}
	ends(project, keptnContext, "it ends under the new keys")
	project, keptnContext = begin(t, installed, []string{"test"}, map[string]string{"job/config.yaml": greeting, "greeting/hello.txt": "hello from Git\n"})
	ends(project, keptnContext, "hello from Git")
}

// With Knative's authentication of senders, everything works as without, and the Broker rejects events that
// config/authentication does not allow.
func TestKnativeAuthenticatesWhoSends(t *testing.T) {
	installed := connect(t)
	afterTest(t, func(ctx context.Context) error { return installed.Authenticate(ctx, isAuthenticated(true, false)) })
	must(t, installed.Authenticate(t.Context(), true))
	project, keptnContext := begin(t, installed, []string{"test"}, map[string]string{"job/config.yaml": greeting, "greeting/hello.txt": "hello from Git\n"})
	if !brokerIs("natss") { // eventing-natss 0.48 delivers without tokens, so Knative's filter refuses what it delivers
		succeeds(t, installed, project, keptnContext)
	}
	task := keptn.Task{Name: "test", TriggeredID: uuid.NewString(), Context: keptnContext, Project: project, Stage: stage, Service: service}
	finished := task.Event(keptn.Finished, time.Now(), keptn.Outcome{Status: keptn.StatusSucceeded, Result: keptn.ResultPass})
	tests := []struct {
		name, namespace, account string
		want                     int
	}{
		{name: "nobody", want: http.StatusUnauthorized},
		{name: "an account of another namespace", namespace: "default", account: "default", want: http.StatusForbidden},
		{name: "an account of the Jobs' namespace", namespace: system.JobsNamespace, account: "default", want: http.StatusForbidden},
		{name: "another account of the functions' namespace", namespace: system.Namespace, account: "watcher", want: http.StatusForbidden},
		{
			name: "jobsource, which may not send that", namespace: system.Namespace,
			account: "jobsource-oidc-sources.knative.dev-sinkbinding", want: http.StatusForbidden,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status, err := installed.PostToBroker(t.Context(), test.namespace, test.account, finished)
			must(t, err)
			compare(t, "status", test.want, status)
		})
	}
}
