package store

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/run"
)

// newPods returns Pods for an API server with a constant status, and its requests.
func newPods(t *testing.T, status int, answer any) (*Pods, *[]string) {
	t.Helper()
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		asked = append(
			asked,
			request.URL.Path+" "+request.URL.Query().Get("labelSelector")+request.URL.Query().Get("fieldSelector")+request.URL.Query().Get("container"),
		)
		if text, ok := answer.(string); ok {
			writer.WriteHeader(status)
			_, _ = writer.Write([]byte(text))
			return
		}
		writer.Header().Set("Content-Type", "application/json")
		writer.WriteHeader(status)
		_ = json.NewEncoder(writer).Encode(answer)
	}))
	t.Cleanup(server.Close)
	client, err := cluster.New(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return &Pods{Client: client}, &asked
}

func TestPodsOfAJobAreListed(t *testing.T) {
	pods, asked := newPods(t, http.StatusOK, corev1.PodList{Items: []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "a-xyz"}}}})
	of := job("a", run.Running)
	got, err := pods.List(t.Context(), &of)
	if err != nil || len(got) != 1 || got[0].Name != "a-xyz" {
		t.Errorf("got %v, %v", got, err)
	}
	if difference := cmp.Diff([]string{"/api/v1/namespaces/jobs/pods batch.kubernetes.io/job-name=a"}, *asked); difference != "" {
		t.Errorf("asked (-want +got):\n%s", difference)
	}
	pods, _ = newPods(t, http.StatusForbidden, "no")
	if _, err := pods.List(t.Context(), &of); err == nil || !strings.HasPrefix(err.Error(), "list the pods of Job jobs/a: ") {
		t.Errorf("got %v", err)
	}
}

// Whichever of its times an event has, the oldest is first.
func TestEventsAreInTheirOrder(t *testing.T) {
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0) }
	event := func(name string) corev1.Event {
		return corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(at(9))}}
	}
	last, series, first, created := event("third"), event("second"), event("first"), event("fourth")
	last.LastTimestamp = metav1.NewTime(at(3))
	series.Series = &corev1.EventSeries{LastObservedTime: metav1.NewMicroTime(at(2))}
	first.EventTime = metav1.NewMicroTime(at(1))
	pods, asked := newPods(t, http.StatusOK, corev1.EventList{Items: []corev1.Event{created, last, series, first}})
	got, err := pods.Events(t.Context(), "jobs", "uid")
	var names []string
	for _, found := range got {
		names = append(names, found.Name)
	}
	if difference := cmp.Diff([]string{"first", "second", "third", "fourth"}, names); difference != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, difference)
	}
	if difference := cmp.Diff([]string{"/api/v1/namespaces/jobs/events involvedObject.uid=uid"}, *asked); difference != "" {
		t.Errorf("asked (-want +got):\n%s", difference)
	}
	pods, _ = newPods(t, http.StatusForbidden, "no")
	if _, err := pods.Events(t.Context(), "jobs", "uid"); err == nil {
		t.Error("a forbidden list must be an error")
	}
}

func TestLogIsCopied(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "jobs", Name: "a-xyz"}}
	pods, asked := newPods(t, http.StatusOK, "the log")
	var got strings.Builder
	if err := pods.Log(t.Context(), pod, "task", &got); got.String() != "the log" || err != nil {
		t.Errorf("got %q, %v", got.String(), err)
	}
	if difference := cmp.Diff([]string{"/api/v1/namespaces/jobs/pods/a-xyz/log task"}, *asked); difference != "" {
		t.Errorf("asked (-want +got):\n%s", difference)
	}
	for _, status := range []int{http.StatusBadRequest, http.StatusNotFound} {
		pods, _ = newPods(t, status, "no")
		if err := pods.Log(t.Context(), pod, "task", io.Discard); err == nil {
			t.Errorf("%d is no error", status)
		}
	}
}
