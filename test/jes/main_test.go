package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/keptn/go-utils/pkg/api/models"
	api "github.com/keptn/go-utils/pkg/api/utils"
	keptnv2 "github.com/keptn/go-utils/pkg/lib/v0_2_0"
	"github.com/keptn/go-utils/pkg/sdk"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// file is the job/config.yaml of every service.
type file string

func (f file) GetResource(api.ResourceScope, ...api.URIOption) (*models.Resource, error) {
	return &models.Resource{ResourceContent: string(f)}, nil
}

// The stand-in sends the events and messages of the original (pkg/eventhandler).
func TestTaskIsStartedAndFinished(t *testing.T) {
	const eventType = "sh.keptn.event.test.triggered"
	for name, test := range map[string]struct {
		condition batchv1.JobConditionType
		want      keptnv2.EventData
	}{
		"its Job succeeds": {
			batchv1.JobComplete,
			keptnv2.EventData{
				Project: "p", Stage: "s", Service: "v", Status: keptnv2.StatusSucceeded, Result: keptnv2.ResultPass,
				Message: "Task 'T' finished successfully!\n\nLogs:\n\n\n",
			},
		},
		"its Job fails": {
			batchv1.JobFailed,
			keptnv2.EventData{
				Project: "p", Stage: "s", Service: "v", Status: keptnv2.StatusErrored, Result: keptnv2.ResultFailed,
				Message: "Error while creating job: job job-executor-service-job-01234567-89ab-cdef-0123--000-001 failed. Reason: BackoffLimitExceeded, Message: no",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			client := fake.NewClientset()
			client.PrependReactor("create", "jobs", func(action clienttesting.Action) (bool, runtime.Object, error) {
				job, _ := action.(clienttesting.CreateAction).GetObject().(*batchv1.Job)
				job.Status.Conditions = []batchv1.JobCondition{{Type: test.condition, Status: corev1.ConditionTrue, Reason: "BackoffLimitExceeded", Message: "no"}}
				return false, nil, nil
			})
			jobs := service{namespace: "jes", interval: time.Millisecond, connect: func() (kubernetes.Interface, error) { return client, nil }}
			keptn := sdk.NewFakeKeptn(name)
			keptn.SetResourceHandler(file("apiVersion: v2\nactions:\n- name: A\n  events: [{name: " + eventType + "}]\n  tasks: [{name: T, image: busybox}]\n"))
			keptn.AddTaskHandler("*", jobs, jobs.matches)
			if err := keptn.NewEvent(models.KeptnContextExtendedCE{
				ID: "01234567-89ab-cdef-0123-456789abcdef", Type: new(eventType), Source: new("shipyard-controller"), Shkeptncontext: "c",
				Data: map[string]string{"project": "p", "stage": "s", "service": "v"},
			}); err != nil {
				t.Fatal(err)
			}
			if len(keptn.SentEvents) != 2 || *keptn.SentEvents[0].Type != "sh.keptn.event.test.started" || *keptn.SentEvents[1].Type != "sh.keptn.event.test.finished" {
				t.Fatalf("sent %v", keptn.SentEvents)
			}
			var got keptnv2.EventData
			if err := keptnv2.EventDataAs(keptn.SentEvents[1], &got); err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff(test.want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}
