package cluster_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/cluster/clientset"
)

// request is a request to the API server.
type request struct{ Method, URL, Accept, ContentType, Body string }

// apiServer is an API server with a constant response. It returns the configuration of its clients, and their
// requests.
func apiServer(t *testing.T, status int, answer string) (*rest.Config, *[]request) {
	t.Helper()
	var asked []request
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, received *http.Request) {
		body, err := io.ReadAll(received.Body)
		if err != nil {
			t.Error(err)
		}
		asked = append(asked, request{received.Method, received.URL.String(), received.Header.Get("Accept"), received.Header.Get("Content-Type"), string(body)})
		writer.Header().Set("Content-Type", "application/json")
		writer.WriteHeader(status)
		_, _ = io.WriteString(writer, answer)
	}))
	t.Cleanup(server.Close)
	return &rest.Config{Host: server.URL}, &asked
}

// The client makes the same requests as client-go's, and decodes the same objects.
func TestClientIsAsClientGos(t *testing.T) {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "jobs", Name: "one"}, Spec: batchv1.JobSpec{Suspend: new(true)}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "jobs", GenerateName: "dry-run-"}}
	selected := metav1.ListOptions{LabelSelector: "a=b", FieldSelector: "metadata.name=one", Limit: 7}
	const (
		jobAnswer    = `{"kind":"Job","apiVersion":"batch/v1","metadata":{"name":"one","uid":"u"},"spec":{"suspend":true}}`
		secretAnswer = `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"one"},"data":{"a":"Yg=="}}`
	)
	tests := []struct {
		name, answer string
		call         func(ctx context.Context, client cluster.Client) (any, error)
	}{
		{"a Job is created", jobAnswer, func(ctx context.Context, client cluster.Client) (any, error) {
			return client.Jobs("jobs").Create(ctx, job, metav1.CreateOptions{})
		}},
		{"a Job is read", jobAnswer, func(ctx context.Context, client cluster.Client) (any, error) {
			return client.Jobs("jobs").Get(ctx, "one", metav1.GetOptions{})
		}},
		{"a Job is patched", jobAnswer, func(ctx context.Context, client cluster.Client) (any, error) {
			return client.Jobs("jobs").Patch(ctx, "one", types.MergePatchType, []byte(`{}`), metav1.PatchOptions{}, "status")
		}},
		{"a Job that was read is deleted", `{"kind":"Status","apiVersion":"v1","status":"Success"}`, func(ctx context.Context, client cluster.Client) (any, error) {
			return nil, client.Jobs("jobs").Delete(ctx, "one", metav1.DeleteOptions{
				Preconditions: metav1.NewUIDPreconditions("u"), PropagationPolicy: new(metav1.DeletePropagationBackground),
			})
		}},
		{"Jobs are listed", `{"kind":"JobList","apiVersion":"batch/v1","metadata":{"continue":"more"},"items":[` + jobAnswer + `]}`,
			func(ctx context.Context, client cluster.Client) (any, error) {
				return client.Jobs("jobs").List(ctx, selected)
			}},
		{"Jobs are watched", `{"type":"ADDED","object":` + jobAnswer + `}`, func(ctx context.Context, client cluster.Client) (any, error) {
			watched, err := client.Jobs("jobs").Watch(ctx, selected)
			if err != nil {
				return nil, err
			}
			defer watched.Stop()
			return <-watched.ResultChan(), nil
		}},
		{"a pod is created without effect", `{"kind":"Pod","apiVersion":"v1"}`, func(ctx context.Context, client cluster.Client) (any, error) {
			return client.Pods("jobs").Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		}},
		{"pods are listed", `{"kind":"PodList","apiVersion":"v1"}`, func(ctx context.Context, client cluster.Client) (any, error) {
			return client.Pods("jobs").List(ctx, selected)
		}},
		{"a container's log is read", "a line", func(ctx context.Context, client cluster.Client) (any, error) {
			return client.Pods("jobs").GetLogs("one", &corev1.PodLogOptions{Container: "task", TailLines: new(int64(3))}).DoRaw(ctx)
		}},
		{"events are listed", `{"kind":"EventList","apiVersion":"v1"}`, func(ctx context.Context, client cluster.Client) (any, error) {
			return client.Events("jobs").List(ctx, selected)
		}},
		{"a Secret is read", secretAnswer, func(ctx context.Context, client cluster.Client) (any, error) {
			return client.Secrets("jobs").Get(ctx, "one", metav1.GetOptions{})
		}},
		{"a ConfigMap is updated", `{"kind":"ConfigMap","apiVersion":"v1"}`, func(ctx context.Context, client cluster.Client) (any, error) {
			return client.ConfigMaps("jobs").Update(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "one"}}, metav1.UpdateOptions{})
		}},
		{"a service account is read", `{"kind":"ServiceAccount","apiVersion":"v1"}`, func(ctx context.Context, client cluster.Client) (any, error) {
			return client.ServiceAccounts("jobs").Get(ctx, "one", metav1.GetOptions{})
		}},
		{"a namespace is read", `{"kind":"Namespace","apiVersion":"v1"}`, func(ctx context.Context, client cluster.Client) (any, error) {
			return client.Namespaces().Get(ctx, "one", metav1.GetOptions{})
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config, asked := apiServer(t, http.StatusOK, test.answer)
			ours, err := cluster.New(config)
			if err != nil {
				t.Fatal(err)
			}
			whole, err := kubernetes.NewForConfig(config)
			if err != nil {
				t.Fatal(err)
			}
			want, err := test.call(t.Context(), clientset.Of(whole))
			if err != nil {
				t.Fatal(err)
			}
			got, err := test.call(t.Context(), ours)
			if err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff(want, got); difference != "" {
				t.Errorf("read (-client-go's +ours):\n%s", difference)
			}
			if len(*asked) != 2 {
				t.Fatalf("the API server was asked %d times", len(*asked))
			}
			if difference := cmp.Diff((*asked)[0], (*asked)[1]); difference != "" {
				t.Errorf("asked (-client-go's +ours):\n%s", difference)
			}
		})
	}
}

// Errors are the same as client-go's.
func TestRefusalsAreKnown(t *testing.T) {
	config, _ := apiServer(t, http.StatusConflict,
		`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"AlreadyExists","message":"jobs.batch \"one\" already exists","code":409}`)
	client, err := cluster.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Jobs("jobs").Create(t.Context(), &batchv1.Job{}, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("error is %v, want AlreadyExists", err)
	}
}

// Outside a pod there is no cluster to connect to.
func TestConnectNeedsAPod(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := cluster.Connect(cluster.CallTimeout); err == nil {
		t.Error("it connected")
	}
}
