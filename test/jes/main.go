package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/url"
	"os"
	"strings"
	"time"

	api "github.com/keptn/go-utils/pkg/api/utils"
	keptnv2 "github.com/keptn/go-utils/pkg/lib/v0_2_0"
	"github.com/keptn/go-utils/pkg/sdk"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

const (
	name = "job-executor-service"
	// interval and attempts are the original's (pkg/k8sutils, AwaitK8sJobDone; maxPollDuration is 5 minutes).
	interval = 5 * time.Second
	attempts = 60
	// reading is how long the original reads job/config.yaml from Keptn's Git repositories. Keptn drops a started event within
	// the first 60 ms (recording 30-started-too-early-dropped).
	reading = 100 * time.Millisecond
)

func main() {
	jobs := service{
		namespace: os.Getenv("JOB_NAMESPACE"), suspend: os.Getenv("SUSPEND_JOBS") == "true", interval: interval, reading: reading,
		connect: func() (kubernetes.Interface, error) {
			config, err := rest.InClusterConfig()
			if err != nil {
				return nil, fmt.Errorf("connect to the cluster: %w", err)
			}
			return kubernetes.NewForConfig(config)
		},
	}
	if err := sdk.NewKeptn(name, sdk.WithTaskHandler("*", jobs, jobs.matches)).Start(); err != nil {
		log.Fatal(err)
	}
}

// service answers Keptn's tasks with Jobs.
type service struct {
	namespace string
	// suspend keeps Jobs from starting, for measurements.
	suspend           bool
	interval, reading time.Duration
	// connect is called for each event.
	connect func() (kubernetes.Interface, error)
}

// configuration is what a job/config.yaml needs here.
type configuration struct {
	Actions []struct {
		Name   string
		Events []struct{ Name string }
		Tasks  []task
	}
}

type task struct {
	Name, Image string
	Cmd, Args   []string
}

// tasksOf returns the data of an event, and the tasks of its first action.
func tasksOf(keptn sdk.IKeptn, triggered sdk.KeptnEvent) (data keptnv2.EventData, tasks []task, err error) {
	if err := keptnv2.Decode(triggered.Data, &data); err != nil {
		return data, nil, fmt.Errorf("decode the event: %w", err)
	}
	const path = "job/config.yaml"
	scope := api.NewResourceScope().Project(data.Project).Stage(data.Stage).Service(data.Service).Resource(url.QueryEscape(path))
	resource, err := keptn.GetResourceHandler().GetResource(*scope)
	if err != nil {
		return data, nil, fmt.Errorf("read %s: %w", path, err)
	}
	var read configuration
	if err := yaml.Unmarshal([]byte(resource.ResourceContent), &read); err != nil {
		return data, nil, fmt.Errorf("decode %s: %w", path, err)
	}
	for _, action := range read.Actions {
		for _, event := range action.Events {
			if event.Name == *triggered.Type {
				return data, action.Tasks, nil
			}
		}
	}
	return data, nil, nil
}

// matches reports whether the event has an action. It reads the file, as the original does.
func (s service) matches(keptn sdk.IKeptn, triggered sdk.KeptnEvent) bool {
	time.Sleep(s.reading)
	_, tasks, err := tasksOf(keptn, triggered)
	if err != nil {
		keptn.Logger().Errorf("could not retrieve config for %s: %v", name, err)
	}
	return len(tasks) > 0
}

// Execute runs the tasks of an event, one after the other.
func (s service) Execute(keptn sdk.IKeptn, triggered sdk.KeptnEvent) (any, *sdk.Error) {
	finished, err := s.run(keptn, triggered)
	if err != nil {
		return nil, &sdk.Error{Err: err, StatusType: keptnv2.StatusErrored, ResultType: keptnv2.ResultFailed, Message: err.Error()}
	}
	return finished, nil
}

func (s service) run(keptn sdk.IKeptn, triggered sdk.KeptnEvent) (finished keptnv2.EventData, err error) {
	data, tasks, err := tasksOf(keptn, triggered)
	if err != nil {
		return finished, err
	}
	finished = keptnv2.EventData{
		Project: data.Project, Stage: data.Stage, Service: data.Service, Status: keptnv2.StatusSucceeded, Result: keptnv2.ResultPass,
	}
	client, err := s.connect()
	if err != nil {
		return finished, fmt.Errorf("Error while connecting to cluster: %w", err)
	}
	for index, task := range tasks {
		job, err := client.BatchV1().Jobs(s.namespace).Create(context.Background(), s.job(triggered, index, task), metav1.CreateOptions{})
		if err == nil {
			err = s.await(client, job.Name)
		}
		if err != nil {
			return finished, fmt.Errorf("Error while creating job: %w", err)
		}
		logs, err := s.logs(client, job.Name)
		if err != nil {
			return finished, err
		}
		finished.Message += fmt.Sprintf("Task '%s' finished successfully!\n\nLogs:\n%s\n\n", task.Name, logs)
	}
	return finished, nil
}

// job returns the Job of a task, with the name and labels of the original.
func (s service) job(triggered sdk.KeptnEvent, index int, configured task) *batchv1.Job {
	const shortID = 24
	jobName := fmt.Sprintf("%s-job-%s-%03d-%03d", name, triggered.ID[:shortID], 0, index+1)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: jobName, Labels: map[string]string{
			"app.kubernetes.io/managed-by": name, "keptn.sh/context": triggered.Shkeptncontext, "keptn.sh/event-id": triggered.ID,
		}},
		Spec: batchv1.JobSpec{
			BackoffLimit: new(int32(0)), Suspend: &s.suspend, TTLSecondsAfterFinished: new(int32(21600)),
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever,
				Containers:    []corev1.Container{{Name: jobName, Image: configured.Image, Command: configured.Cmd, Args: configured.Args}},
			}},
		},
	}
}

// await asks for a Job until it has ended.
func (s service) await(client kubernetes.Interface, jobName string) error {
	for range attempts {
		job, err := client.BatchV1().Jobs(s.namespace).Get(context.Background(), jobName, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("read the job: %w", err)
		}
		for _, condition := range job.Status.Conditions {
			switch {
			case condition.Status != corev1.ConditionTrue:
			case condition.Type == batchv1.JobComplete:
				return nil
			case condition.Type == batchv1.JobFailed:
				return fmt.Errorf("job %s failed. Reason: %s, Message: %s", jobName, condition.Reason, condition.Message)
			}
		}
		time.Sleep(s.interval)
	}
	return errors.New("max poll count reached for job")
}

func (s service) logs(client kubernetes.Interface, jobName string) (string, error) {
	pods := client.CoreV1().Pods(s.namespace)
	found, err := pods.List(context.Background(), metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + jobName})
	if err != nil {
		return "", fmt.Errorf("list the pods of the job: %w", err)
	}
	var text strings.Builder
	for _, pod := range found.Items {
		content, err := pods.GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(context.Background())
		if err != nil {
			return "", fmt.Errorf("read the log of pod %s: %w", pod.Name, err)
		}
		fmt.Fprintf(&text, "Container %s of pod %s:\n%s\n", jobName, pod.Name, content)
	}
	return text.String(), nil
}
