package attack

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/run"
)

// Request is an attack. Without a body it is a GET, otherwise a POST.
type Request struct {
	Name, URL string
	Header    map[string]string
	Body      string
}

// Addresses in a cluster.
const (
	brokerURL = "http://broker-ingress.knative-eventing.svc.cluster.local/job-executor/keptn"
	bridgeURL = "http://bridge.job-executor.svc.cluster.local"
	filesURL  = "http://bridge-files.job-executor.svc.cluster.local"
)

// forged returns an unsigned event for the Broker or a function.
func forged(name, url, eventType string, data any, attributes map[string]string) Request {
	content, _ := json.Marshal(data) // strings and raw JSON always encode
	header := map[string]string{
		"Content-Type": "application/json", "Ce-Specversion": "1.0", "Ce-Type": eventType, "Ce-Source": keptn.Source,
		"Ce-Id": "forged-" + strings.ReplaceAll(name, " ", "-"),
	}
	if receiver := protocol.ReceiverOf(eventType); receiver != "" {
		header["Ce-"+protocol.ReceiverExtension] = receiver
	}
	for attribute, value := range attributes {
		header["Ce-"+attribute] = value
	}
	return Request{name, url, header, string(content)}
}

// On returns the attacks on a task with a Job.
func On(task keptn.Task, job *batchv1.Job) []Request {
	keptnEvent := func(name, url string, phase keptn.Phase, attributes map[string]string) Request {
		data := map[string]any{
			"project": task.Project, "stage": task.Stage, "service": task.Service, "status": "errored", "result": "fail", "message": "forged",
		}
		all := map[string]string{"Shkeptncontext": task.Context, "Keptntask": task.Name, "Gitcommitid": task.GitCommitID}
		if phase != keptn.Triggered {
			all["Triggeredid"] = task.TriggeredID
		}
		maps.Copy(all, attributes)
		return forged(name, url, keptn.TypeOf(task.Name, phase), data, all)
	}
	notice := func(name, eventType string, notice protocol.Notice) Request {
		notice.RunID, notice.Task = run.ID(task.TriggeredID), json.RawMessage(job.Annotations[run.TaskAnnotation])
		return forged(name, brokerURL, eventType, notice, nil)
	}
	grant := ""
	for _, container := range job.Spec.Template.Spec.InitContainers {
		for _, variable := range container.Env {
			if variable.Name == "GRANT" {
				grant = variable.Value
			}
		}
	}
	file := filesURL + files.ResourcePath + "?level=service&path=job/config.yaml"
	return []Request{
		keptnEvent("finish the task", brokerURL, keptn.Finished, nil),
		keptnEvent("start it once more, so that it hangs", brokerURL, keptn.Started, nil),
		keptnEvent("finish it at the bridge", bridgeURL+"/keptn", keptn.Finished, nil),
		keptnEvent("say that it can not be delivered", bridgeURL+"/undelivered", keptn.Triggered, map[string]string{
			"Id": task.TriggeredID, "Knativeerrorcode": "500",
		}),
		keptnEvent("run the Jobs of a project", brokerURL, keptn.Triggered, nil),
		notice("cancel the run", protocol.CancelledType, protocol.Notice{}),
		notice("say that it was reported", protocol.ReportedType, protocol.Notice{}),
		notice("ask for its result", protocol.AwaitedType, protocol.Notice{Reason: "forged"}),
		notice("say that its Job was deleted", protocol.CompletedType, protocol.Notice{Job: job.Name, Deleted: true}),
		notice("say that it has ended", protocol.ActiveType, protocol.Notice{Begun: true, Ended: true}),
		{Name: "read its files with its grant", URL: file, Header: map[string]string{files.GrantHeader: grant}},
		{Name: "read them with its grant as a token", URL: file, Header: map[string]string{files.GrantHeader: grant, "Authorization": "Bearer " + grant}},
		keptnEvent("get a grant", filesURL+files.GrantPath, keptn.Triggered, nil),
	}
}

// Do makes the request and returns the status of the response.
func (r Request) Do(client *http.Client) (int, error) {
	method := http.MethodGet
	if r.Body != "" {
		method = http.MethodPost
	}
	request, err := http.NewRequest(method, r.URL, strings.NewReader(r.Body)) //nolint:noctx // the client has a timeout
	if err != nil {
		return 0, fmt.Errorf("create a request: %w", err)
	}
	for name, value := range r.Header {
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, fmt.Errorf("attacking: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode, nil
}

// Script returns a shell script that makes the requests with wget and prints each response below the request's
// name. In a pod that must not reach the Broker, it waits up to a minute for that: some networks apply policies
// late.
func Script(requests []Request, isApart bool) string {
	var text strings.Builder
	if isApart {
		fmt.Fprintf(&text, "for second in $(seq 60); do wget -O /dev/null %s 2>&1 | grep -q \"can't connect\" && break; sleep 1; done\n", brokerURL)
	}
	for _, request := range requests {
		fmt.Fprintf(&text, "echo '== %s'\nwget -q -S -O -", request.Name)
		for _, name := range slices.Sorted(maps.Keys(request.Header)) {
			fmt.Fprintf(&text, " --header '%s: %s'", name, request.Header[name])
		}
		if request.Body != "" {
			fmt.Fprintf(&text, " --post-data '%s'", request.Body)
		}
		fmt.Fprintf(&text, " '%s' 2>&1 || true\n", request.URL)
	}
	return text.String()
}
