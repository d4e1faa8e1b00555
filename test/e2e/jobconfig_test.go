//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/run"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/system"
)

// Only a real kubelet can show that these parts of job/config.yaml work.
func TestJobConfig(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	const head = "apiVersion: v2\nactions:\n"
	passed := []summary{{Type: "test.started"}, {"test.finished", "succeeded", "pass"}}
	tests := []struct {
		name, actions string
		// created is the name of a Secret and a service account. The test creates both after the Jobs.
		created string
		want    []summary
		says    []string
		logs    string
	}{
		{
			name: "the short form of an action",
			actions: `- name: Greet
  event: sh.keptn.event.test.triggered
  image: busybox
  files: [greeting/hello.txt]
  cmd: cat
  args: /keptn/greeting/hello.txt
`,
			want: passed, says: []string{"Task 'Greet' finished successfully!", "hello from Git"},
		},
		{
			name: "an action that fails stops no other, and a silent one has no say",
			actions: `- {name: Note, silent: true, event: test, image: busybox, cmd: [sh, -c, "exit 1"]}
- name: One
  event: test
  tasks: [{name: breaks, image: busybox, cmd: [sh, -c, "exit 3"]}, {name: never, image: busybox, cmd: [echo, never]}]
- {name: Two, event: test, image: busybox, cmd: [echo, second]}
`,
			want: []summary{{Type: "test.started"}, {"test.finished", "errored", "fail"}},
			says: []string{"Task 'breaks' failed: Container task failed (Reason: Error, ExitCode: 3).", "Task 'Two' finished successfully!", "second"},
			logs: "Task 'Note' failed: Container task failed (Reason: Error, ExitCode: 1).\n",
		},
		{
			name: "files can be changed, and written beside, by any user",
			actions: `- name: Write
  event: test
  tasks:
  - name: root
    image: busybox
    files: [greeting]
    workingDir: /keptn/greeting
    securityContext: {runAsUser: 0, runAsGroup: 0, runAsNonRoot: false}
    cmd: [sh, -c, "echo more >> hello.txt; touch out.txt; ls; id -u"]
  - name: other
    image: busybox
    files: [greeting]
    workingDir: /keptn/greeting
    securityContext: {runAsUser: 7000, runAsGroup: 9000}
    cmd: [sh, -c, "echo more >> hello.txt; touch out.txt; ls; id -u"]
`,
			want: passed, says: []string{"out.txt\n0\n", "out.txt\n7000\n"},
		},
		{
			name: "an event's text is not expanded",
			actions: `- name: Show
  event: test
  image: busybox
  env: [{name: TOKEN, value: secret, valueFrom: string}, {name: NOTE, value: $.data.labels.note, valueFrom: event}]
  cmd: [sh, -c, 'echo "$NOTE / $LABELS_NOTE"']
`,
			want: passed, says: []string{"pa$$word $(TOKEN) $5 / pa$$word $(TOKEN) $5"},
		},
		{
			name: "a Secret and a service account may be created while an earlier task runs", created: "made-meanwhile",
			actions: `- name: Made
  event: test
  tasks:
  - {name: first, image: busybox, cmd: [sleep, "5"]}
  - name: second
    image: busybox
    serviceAccount: made-meanwhile
    cmd: [sh, -c, 'echo "it is $KEY"']
    env: [{name: made-meanwhile, valueFrom: secret}]
`,
			want: passed, says: []string{"it is made"},
		},
		{
			name: "a task is tried again",
			actions: `- {name: Try, event: test, image: busybox, retries: 1, cmd: [sh, -c, 'echo "$HOSTNAME is no good"; exit 3']}
`,
			want: []summary{{Type: "test.started"}, {"test.finished", "errored", "fail"}},
			says: []string{"Task 'Try' failed: Container task failed (Reason: Error, ExitCode: 3).", " is no good\n\nContainer task of pod "},
		},
		{
			name: "a task says its result",
			actions: `- name: Measure
  event: test
  image: busybox
  cmd: [sh, -c, 'echo "{\"result\": \"warning\", \"message\": \"3 of 5 are slow\"}" > /dev/termination-log']
`,
			want: []summary{{Type: "test.started"}, {"test.finished", "succeeded", "warning"}}, says: []string{"3 of 5 are slow"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			project := createProject(t, installed, []string{"test"}, map[string]string{
				"job/config.yaml": head + test.actions, "greeting/hello.txt": "hello from Git\n",
			})
			keptnContext := triggerWith(t, installed, project, map[string]any{"labels": map[string]string{"note": "pa$$word $(TOKEN) $5"}})
			t.Logf("project %s, Keptn context %s", project, keptnContext)
			if test.created != "" {
				makeMeanwhile(t, installed, keptnContext, test.created)
			}
			_, events := end(t, installed, project, keptnContext)
			compare(t, "events", test.want, summaries(events))
			contains(t, events[len(events)-1].Data.Message, test.says...)
			if test.logs != "" {
				must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
					logged, err := installed.ErrorsOf(ctx, events[len(events)-1].TriggeredID)
					for _, entry := range logged {
						if entry == test.logs {
							return nil
						}
					}
					return errors.Join(err, fmt.Errorf("Keptn's log has %q", logged))
				}))
			}
		})
	}
}

// makeMeanwhile creates a Secret and a service account for tasks once a run has its Jobs.
func makeMeanwhile(t *testing.T, installed *system.Installation, keptnContext, name string) {
	t.Helper()
	secrets, accounts := installed.Kubernetes.CoreV1().Secrets(system.JobsNamespace), installed.Kubernetes.CoreV1().ServiceAccounts(system.JobsNamespace)
	named := metav1.ObjectMeta{Name: name, Labels: map[string]string{"job-executor.github.io/allowed": "true"}}
	ignoring := func(err error) error {
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	}
	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		jobs, err := installed.Jobs(ctx, keptnContext)
		if err == nil && len(jobs) < 2 {
			err = errors.New("there are no Jobs yet")
		}
		if err != nil {
			return err
		}
		_, noAccount := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: named}, metav1.CreateOptions{})
		_, noSecret := secrets.Create(ctx, &corev1.Secret{ObjectMeta: named, StringData: map[string]string{"KEY": "made"}}, metav1.CreateOptions{})
		return errors.Join(ignoring(noAccount), ignoring(noSecret))
	}))
	afterTest(t, func(ctx context.Context) error {
		return errors.Join(secrets.Delete(ctx, name, metav1.DeleteOptions{}), accounts.Delete(ctx, name, metav1.DeleteOptions{}))
	})
}

// A task keeps the values that its Secret had at its start. The watcher can no longer redact them.
func TestLogIsWithheldOfATaskWhoseSecretIsRotated(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	secrets := installed.Kubernetes.CoreV1().Secrets(system.JobsNamespace)
	secret, err := secrets.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "rotated-", Labels: map[string]string{"job-executor.github.io/allowed": "true"}},
		StringData: map[string]string{"KEY": "the-value-before"},
	}, metav1.CreateOptions{})
	must(t, err)
	afterTest(t, func(ctx context.Context) error { return secrets.Delete(ctx, secret.Name, metav1.DeleteOptions{}) })
	project := createProject(t, installed, []string{"test"}, map[string]string{"job/config.yaml": `apiVersion: v2
actions:
- name: Print
  event: test
  tasks: [{name: print, image: busybox, cmd: [sh, -c, 'echo "it is $KEY"; sleep 15'], env: [{name: ` + secret.Name + `, valueFrom: secret}]}]
`})
	keptnContext := trigger(t, installed, project)
	t.Logf("project %s, Keptn context %s", project, keptnContext)

	must(t, console.Eventually(t.Context(), runLimit, func(ctx context.Context) error {
		pods, err := installed.Kubernetes.CoreV1().Pods(system.JobsNamespace).List(ctx, metav1.ListOptions{LabelSelector: run.ContextLabel + "=" + keptnContext})
		if err != nil {
			return err
		}
		for _, pod := range pods.Items {
			for _, status := range pod.Status.ContainerStatuses {
				// Kubernetes records in whole seconds when a Secret was changed.
				if running := status.State.Running; running != nil && time.Since(running.StartedAt.Time) > 2*time.Second {
					return nil
				}
			}
		}
		return errors.New("the task does not run yet")
	}))
	secret.StringData = map[string]string{"KEY": "the-value-after"}
	_, err = secrets.Update(t.Context(), secret, metav1.UpdateOptions{})
	must(t, err)

	_, events := end(t, installed, project, keptnContext)
	compare(t, "events", []summary{{Type: "test.started"}, {"test.finished", "succeeded", "pass"}}, summaries(events))
	message := events[len(events)-1].Data.Message
	contains(t, message, "Secret "+secret.Name+" was changed while the task ran")
	if strings.Contains(message, "the-value") {
		t.Errorf("a value of the Secret is in %q", message)
	}
}

// The example of the demo, which is the short form that Keptn's documentation shows, with
// the real locust.
func TestTheDemosExample(t *testing.T) {
	t.Parallel()
	installed := connect(t)
	must(t, installed.Apply(t.Context(), "test/demo/cluster/target.yaml"))
	files, err := installed.ReadFiles("test/demo/project")
	must(t, err)
	contents := map[string]string{}
	for name, content := range files {
		contents[name] = string(content)
	}
	project := createProject(t, installed, []string{"test"}, contents)
	keptnContext := triggerWith(t, installed, project, map[string]any{
		"deployment": map[string]any{"deploymentURIsLocal": []string{"http://shop.shop.svc.cluster.local"}},
	})
	_, events := end(t, installed, project, keptnContext)
	compare(t, "events", []summary{{Type: "test.started"}, {"test.finished", "succeeded", "pass"}}, summaries(events))
	contains(t, events[len(events)-1].Data.Message, "Task 'Run tests' finished successfully!", "Aggregated")
}
