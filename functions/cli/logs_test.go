package cli

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	fakerest "k8s.io/client-go/rest/fake"

	"github.com/job-executor/job-executor/functions/run"
)

// logging is a clientset whose containers have logs, by pod/container. client-go's fake has the same log for all.
type logging struct {
	kubernetes.Interface

	logs map[string]string
}

func (l logging) CoreV1() coreclient.CoreV1Interface {
	return loggingCore{l.Interface.CoreV1(), l.logs}
}

type loggingCore struct {
	coreclient.CoreV1Interface

	logs map[string]string
}

func (l loggingCore) Pods(namespace string) coreclient.PodInterface {
	return loggingPods{l.CoreV1Interface.Pods(namespace), l.logs}
}

type loggingPods struct {
	coreclient.PodInterface

	logs map[string]string
}

// GetLogs returns a log with the options that change it in its first line.
func (l loggingPods) GetLogs(name string, options *corev1.PodLogOptions) *rest.Request {
	read := func(*http.Request) (*http.Response, error) {
		text, ok := l.logs[name+"/"+options.Container]
		if !ok {
			return &http.Response{StatusCode: http.StatusNotFound, Body: io.NopCloser(strings.NewReader("no such container"))}, nil
		}
		if options.Timestamps {
			text = "12:00 " + text
		}
		if options.TailLines != nil {
			text = fmt.Sprintf("last %d: %s", *options.TailLines, text)
		}
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(text))}, nil
	}
	return (&fakerest.RESTClient{
		Client: fakerest.CreateHTTPClient(read), NegotiatedSerializer: scheme.Codecs.WithoutConversion(), GroupVersion: corev1.SchemeGroupVersion,
	}).Request()
}

// attempt returns a pod of job 1. Its name has the second of its creation.
func attempt(second int, statuses ...corev1.ContainerStatus) *corev1.Pod {
	owner := job(1, 0, nil)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: owner.Namespace, Name: fmt.Sprintf("pod-%d", second), Labels: owner.Labels,
		CreationTimestamp: metav1.NewTime(noon.Add(time.Duration(second) * time.Second)),
	}}
	pod.Labels[batchv1.JobNameLabel] = owner.Name
	for _, status := range statuses {
		if status.Name == run.FetcherContainer {
			pod.Status.InitContainerStatuses = append(pod.Status.InitContainerStatuses, status)
		} else {
			pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, status)
		}
	}
	return pod
}

func exited(name string, code int32) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, StartedAt: metav1.NewTime(noon)}},
	}
}

func TestLogs(t *testing.T) {
	waiting := corev1.ContainerStatus{Name: run.TaskContainer, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}}
	twice := []runtime.Object{
		job(1, 60, ended(batchv1.JobFailed, true)),
		attempt(1, exited(run.FetcherContainer, 0), exited(run.TaskContainer, 1), exited("proxy", 0)), attempt(2, exited(run.TaskContainer, 2)),
	}
	logs := map[string]string{
		"pod-1/" + run.FetcherContainer: "fetching\n", "pod-1/" + run.TaskContainer: "no end of line",
		"pod-1/proxy": "proxied\n", "pod-2/" + run.TaskContainer: "again\n",
	}
	const first, second = "==> test / hello, attempt 1 <==\nno end of line\n", "==> test / hello, attempt 2 <==\nagain\n"
	tests := []struct {
		name      string
		objects   []runtime.Object
		arguments string
		want      string
	}{
		{name: "each attempt", want: first + second},
		{name: "one attempt", arguments: "--attempt 2", want: second},
		{name: "a task of Keptn", arguments: "--task test", want: first + second},
		{name: "a task of the file", arguments: "--task hello", want: first + second},
		{name: "another task", arguments: "--task other"},
		{name: "Jobs that failed", arguments: "--failed", want: first + second},
		{
			name: "no Job has failed", arguments: "--failed",
			objects: []runtime.Object{job(1, 60, ended(batchv1.JobComplete, true)), attempt(1, exited(run.TaskContainer, 0))},
		},
		{
			name: "all containers", arguments: "--all-containers --attempt 1",
			want: "==> test / hello, attempt 1, container " + run.FetcherContainer + " <==\nfetching\n" + first +
				"==> test / hello, attempt 1, container proxy <==\nproxied\n",
		},
		{
			name: "the last lines with their times", arguments: "--tail 3 --timestamps --attempt 2",
			want: "==> test / hello, attempt 2 <==\nlast 3: 12:00 again\n",
		},
		{
			name:    "the files could not be fetched",
			objects: []runtime.Object{job(1, 60, nil), attempt(1, exited(run.FetcherContainer, 1), waiting)},
			want:    "==> test / hello, container " + run.FetcherContainer + " <==\nfetching\n",
		},
		{
			name: "a log that is gone", objects: []runtime.Object{job(1, 60, nil), attempt(9, exited(run.TaskContainer, 0))},
			want: "==> test / hello <==\n(the log cannot be read: the server could not find the requested resource)\n",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := &world{objects: test.objects, logs: logs}
			if test.objects == nil {
				w.objects = twice
			}
			got, err := w.call(t, "job-executor", append([]string{"logs", "c0000001"}, strings.Fields(test.arguments)...)...)
			if difference := cmp.Diff(test.want, got); err != nil || difference != "" {
				t.Errorf("%v (-want +got):\n%s", err, difference)
			}
		})
	}
}
