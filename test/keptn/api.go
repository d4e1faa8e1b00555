package keptn

import (
	"crypto/sha1" //nolint:gosec // Keptn's integration ids are SHA-1
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keptn/go-utils/pkg/api/models"
)

// kept are the attributes that the API keeps. It drops all others, and replaces id and time (recording
// 54-api-attributes).
var kept = []string{"contenttype", "data", "extensions", "gitcommitid", "shkeptncontext", "source", "specversion", "triggeredid", "type"}

// requiredMissing is the code in the body of the API's 422.
const requiredMissing = 602

func (s *Server) postEvent(writer http.ResponseWriter, request *http.Request) {
	var body message
	if s.options.ValidateEvents {
		request.Body = http.MaxBytesReader(writer, request.Body, maxValidatedBytes)
	}
	if err := json.NewDecoder(request.Body).Decode(&body); err != nil {
		if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			refuse(writer, http.StatusInternalServerError, "could not parse event: "+mismatch.Error())
			return
		}
		refuse(writer, http.StatusBadRequest, `parsing body body from "" failed, because `+err.Error())
		return
	}
	for _, name := range []string{"type", "source"} {
		if body.text(name) == "" {
			answer(writer, http.StatusUnprocessableEntity, map[string]any{"code": requiredMissing, "message": name + " in body is required"})
			return
		}
	}
	if problem := s.problemOf(body); problem != "" {
		refuse(writer, http.StatusBadRequest, problem)
		return
	}
	event := message{"id": s.options.NewID(), "time": s.options.Now().UTC().Format(time.RFC3339Nano), "specversion": "1.0", "contenttype": "application/json"}
	for _, name := range kept {
		if value, ok := body[name]; ok {
			event[name] = value
		}
	}
	if event.text("shkeptncontext") == "" {
		event["shkeptncontext"] = s.options.NewID()
	}
	content, err := json.Marshal(event)
	if err == nil {
		err = s.publisher(event.text("type"), content)
	}
	if err != nil {
		refuse(writer, http.StatusInternalServerError, "could not publish message to NATS: "+err.Error())
		return
	}
	answer(writer, http.StatusOK, map[string]any{"keptnContext": event.text("shkeptncontext")})
}

// maxValidatedBytes is MAX_EVENT_SIZE_KB.
const maxValidatedBytes = 64 << 10

// problemOf returns the objection of event validation to an event (recording 71-validation-on).
func (s *Server) problemOf(event message) string {
	parts := strings.Split(event.text("type"), ".")
	last := parts[len(parts)-1]
	switch {
	case !s.options.ValidateEvents, event.text("type") == "sh.keptn.log.error":
		return ""
	case len(parts) < 5 || !strings.HasPrefix(event.text("type"), "sh.keptn.event."):
		return "unknown event type"
	case len(parts) == 6 && last == "triggered":
		return ""
	case len(parts) != 5 || last != "started" && last != "finished":
		return "unknown event type action: " + last
	case event.text("triggeredid") == "":
		return "mandatory field 'triggeredid' missing"
	case event.dataText("project") == "" || event.dataText("stage") == "" || event.dataText("service") == "":
		return "mandatory field(s) 'project', 'stage' or 'service' missing"
	case last == "finished" && event.dataText("status") == "":
		return "status field is not set"
	case last == "finished" && event.dataText("result") == "":
		return "result field is not set"
	default:
		return ""
	}
}

// controlPlane is shipyard-controller's API.
func (s *Server) controlPlane() http.Handler {
	mux := http.NewServeMux()
	locked := func(pattern string, handle func(http.ResponseWriter, *http.Request)) {
		mux.HandleFunc(pattern, func(writer http.ResponseWriter, request *http.Request) {
			s.mutex.Lock()
			defer s.mutex.Unlock()
			handle(writer, request)
		})
	}
	locked("GET /v1/event/triggered/{type}", s.listOpen)
	locked("GET /v1/sequence/{project}", s.listSequences)
	locked("GET /v1/sequence-execution", s.listExecutions)
	locked("GET /v1/project", s.listProjects)
	locked("GET /v1/project/{project}", s.getProject)
	locked("POST /v1/project", s.postProject)
	locked("POST /v1/project/{project}/service", s.postService)
	locked("POST /v1/uniform/registration", s.register)
	locked("GET /v1/uniform/registration", s.listIntegrations)
	locked("PUT /v1/uniform/registration/{id}/ping", s.ping)
	locked("DELETE /v1/uniform/registration/{id}", s.unregister)
	locked("POST /v1/uniform/registration/{id}/subscription", s.subscribe)
	locked("DELETE /v1/uniform/registration/{id}/subscription/{subscription}", s.unsubscribe)
	locked("POST /v1/log", s.postLog)
	locked("GET /v1/log", s.listLog)
	mux.HandleFunc("POST /v1/sequence/{project}/{context}/control", func(writer http.ResponseWriter, request *http.Request) {
		var body struct {
			State string `json:"state"`
		}
		if !decode(writer, request, &body) {
			return
		}
		if body.State == "" {
			refuse(writer, http.StatusBadRequest, "Invalid request format: Key: 'SequenceControlCommand.State' Error:Field validation for 'State' failed on the 'required' tag")
			return
		}
		s.control(request.PathValue("context"), body.State)
		answer(writer, http.StatusOK, map[string]any{})
	})
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if s.down.Load() {
			page(writer, http.StatusBadGateway)
			return
		}
		mux.ServeHTTP(writer, request)
	})
}

// listOpen lists open triggered events, the newest first. Pages after the first repeat its items, as in Keptn
// (recordings 47 and 62).
func (s *Server) listOpen(writer http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	if name := query.Get("project"); name != "" && s.projects[name] == nil {
		refuse(writer, http.StatusNotFound, "project not found")
		return
	}
	size, err := strconv.Atoi(query.Get("pageSize"))
	if query.Get("pageSize") == "" {
		size, err = defaultPage, nil
	}
	if err != nil {
		refuse(writer, http.StatusBadRequest, "Invalid request format")
		return
	}
	events := []message{}
	for _, listed := range slices.Backward(s.open) {
		event := listed.event
		if event.text("type") != request.PathValue("type") {
			continue
		}
		wanted := true
		for parameter, value := range map[string]string{
			"project": event.dataText("project"), "stage": event.dataText("stage"), "service": event.dataText("service"), "eventID": event.text("id"),
		} {
			wanted = wanted && (query.Get(parameter) == "" || query.Get(parameter) == value)
		}
		if wanted {
			events = append(events, event)
		}
	}
	body := map[string]any{"nextPageKey": "0"}
	if total := len(events); total > 0 {
		body["totalCount"] = total
		offset, _ := strconv.Atoi(query.Get("nextPageKey"))
		if offset+size < total {
			body["nextPageKey"] = strconv.Itoa(offset + size)
		}
		events = events[:min(size, total)]
	}
	body["events"] = events
	answer(writer, http.StatusOK, body)
}

const milliseconds = "2006-01-02T15:04:05.000Z"

func (s *Server) listSequences(writer http.ResponseWriter, request *http.Request) {
	states := []map[string]any{}
	project, keptnContext := request.PathValue("project"), request.URL.Query().Get("keptnContext")
	for _, run := range slices.Backward(s.executions) {
		if run.input["project"] != project || !matches(keptnContext, run.context) {
			continue
		}
		stage := map[string]any{"name": run.stage, "state": run.stageState}
		if run.latest != nil {
			stage["latestEvent"] = brief(run.latest)
		}
		if run.latestFailed != nil {
			stage["latestFailedEvent"] = brief(run.latestFailed)
		}
		stages := []any{stage}
		for _, stray := range run.strays {
			stages = append(stages, map[string]any{"name": stray.dataText("stage"), "state": "triggered", "latestEvent": brief(stray)})
		}
		states = append(states, map[string]any{
			"name": run.sequence.Name, "project": run.input["project"], "service": run.input["service"], "shkeptncontext": run.context,
			"state": run.state, "time": run.triggeredAt.UTC().Format(milliseconds), "stages": stages,
		})
	}
	body := map[string]any{"states": states}
	if len(states) > 0 {
		body["totalCount"] = len(states)
	}
	answer(writer, http.StatusOK, body)
}

func brief(event message) map[string]any {
	return map[string]any{"id": event.text("id"), "type": event.text("type"), "time": event.text("time")}
}

// matches reports whether a value equals that of a query, if the query has one.
func matches(wanted, value string) bool { return wanted == "" || wanted == value }

func (s *Server) listExecutions(writer http.ResponseWriter, request *http.Request) {
	found := []map[string]any{}
	query := request.URL.Query()
	keptnContext, project := query.Get("keptnContext"), query.Get("project")
	for _, run := range slices.Backward(s.executions) {
		if of, _ := run.input["project"].(string); !matches(keptnContext, run.context) || !matches(project, of) {
			continue
		}
		tasks := []any{}
		for _, task := range run.sequence.Tasks {
			tasks = append(tasks, map[string]any{"name": task.Name, "properties": task.Properties})
		}
		previous := []any{}
		for _, task := range run.previous {
			previous = append(previous, map[string]any{
				"name": task.name, "triggeredID": task.triggeredID, "result": task.result, "status": task.status, "properties": task.properties,
			})
		}
		counted := []any{}
		for _, event := range run.current.events {
			counted = append(counted, map[string]any{
				"eventType": event.eventType, "source": event.source, "result": event.result, "status": event.status, "time": event.time, "properties": event.properties,
			})
		}
		state := run.state
		if state == aborted {
			state = finished // recording 40-abort-after-started
		}
		found = append(found, map[string]any{
			"_id": run.id, "schemaVersion": "1", "sequence": map[string]any{"name": run.sequence.Name, "tasks": tasks},
			"status": map[string]any{
				"state": state, "stateBeforePause": run.stateBeforePause, "previousTasks": previous,
				"currentTask": map[string]any{"name": run.current.name, "triggeredID": run.current.triggeredID, "events": counted},
			},
			"scope": run.scope, "inputProperties": run.input, "triggeredAt": run.triggeredAt.UTC().Format(milliseconds),
		})
	}
	answer(writer, http.StatusOK, map[string]any{"sequenceExecutions": found, "pageSize": len(found), "totalCount": len(found)})
}

// listEvents is mongodb-datastore's list of all events on the stream, the newest first.
func (s *Server) listEvents(writer http.ResponseWriter, request *http.Request) {
	if s.options.Unstored("") {
		page(writer, http.StatusServiceUnavailable)
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found := []message{}
	query := request.URL.Query()
	keptnContext, eventType := query.Get("keptnContext"), query.Get("type")
	for _, event := range slices.Backward(s.events) {
		if matches(keptnContext, event.text("shkeptncontext")) && matches(eventType, event.text("type")) {
			found = append(found, event)
		}
	}
	answer(writer, http.StatusOK, map[string]any{"events": found, "totalCount": len(found)})
}

func (s *Server) postProject(writer http.ResponseWriter, request *http.Request) {
	var body struct {
		Name           string `json:"name"`
		Shipyard       string `json:"shipyard"`
		GitCredentials struct {
			RemoteURL string `json:"remoteURL"`
			User      string `json:"user"`
			HTTPS     struct {
				InsecureSkipTLS bool `json:"insecureSkipTLS"`
			} `json:"https"`
		} `json:"gitCredentials"`
	}
	if !decode(writer, request, &body) {
		return
	}
	content, err := base64.StdEncoding.DecodeString(body.Shipyard)
	if err != nil || s.projects[body.Name] != nil {
		refuse(writer, http.StatusConflict, "project is there already, or its shipyard is not encoded")
		return
	}
	finish := s.tell("project.create", map[string]any{"project": body.Name})
	if err := s.createProject(body.Name, content); err != nil {
		refuse(writer, http.StatusInternalServerError, err.Error())
		return
	}
	// The response does not contain the credentials' token.
	s.projects[body.Name].credentials = map[string]any{
		"remoteURL": body.GitCredentials.RemoteURL, "user": body.GitCredentials.User, "https": body.GitCredentials.HTTPS,
	}
	finish(map[string]any{"createdProject": map[string]any{
		"projectName": body.Name, "gitRemoteURL": body.GitCredentials.RemoteURL, "shipyard": body.Shipyard,
	}})
	writer.WriteHeader(http.StatusCreated)
}

// tell publishes that shipyard-controller starts an operation, and returns a function that publishes its end.
func (s *Server) tell(what string, data map[string]any) (finish func(more map[string]any)) {
	keptnContext := s.options.NewID()
	s.publish(s.controllerEvent(what+".started", keptnContext, data))
	return func(more map[string]any) {
		finished := map[string]any{"status": "succeeded", "result": "pass"}
		maps.Copy(finished, data)
		maps.Copy(finished, more)
		s.publish(s.controllerEvent(what+".finished", keptnContext, finished))
	}
}

func (s *Server) postService(writer http.ResponseWriter, request *http.Request) {
	var body struct {
		ServiceName string `json:"serviceName"`
	}
	if !decode(writer, request, &body) {
		return
	}
	project := s.projects[request.PathValue("project")]
	if project == nil {
		refuse(writer, http.StatusNotFound, "project not found")
		return
	}
	finish := s.tell("service.create", map[string]any{"project": project.name, "service": body.ServiceName})
	if err := project.createServices(body.ServiceName); err != nil {
		refuse(writer, http.StatusInternalServerError, err.Error())
		return
	}
	finish(nil)
	answer(writer, http.StatusOK, map[string]any{"message": ""})
}

func (s *Server) listProjects(writer http.ResponseWriter, _ *http.Request) {
	projects := []any{}
	for _, name := range slices.Sorted(maps.Keys(s.projects)) {
		projects = append(projects, s.projects[name].describe(name))
	}
	answer(writer, http.StatusOK, map[string]any{"projects": projects, "nextPageKey": "0", "totalCount": len(projects)})
}

// getProject returns one entry of the list.
func (s *Server) getProject(writer http.ResponseWriter, request *http.Request) {
	name := request.PathValue("project")
	if s.projects[name] == nil {
		refuse(writer, http.StatusNotFound, "project not found")
		return
	}
	answer(writer, http.StatusOK, s.projects[name].describe(name))
}

func (p *project) describe(name string) map[string]any {
	stages := []any{}
	for _, stage := range p.shipyard.Spec.Stages {
		services := []any{}
		for _, service := range p.services {
			services = append(services, map[string]any{"serviceName": service, "creationDate": p.created(), "openRemediations": nil})
		}
		stages = append(stages, map[string]any{"stageName": stage.Name, "services": services})
	}
	return map[string]any{
		"projectName": name, "shipyard": string(p.shipyardYAML), "shipyardVersion": p.shipyard.ApiVersion, "stages": stages,
		"creationDate": p.created(), "gitCredentials": p.credentials, "isUpstreamAutoProvisioned": false,
	}
}

func (s *Server) register(writer http.ResponseWriter, request *http.Request) {
	var wanted models.Integration
	if !decode(writer, request, &wanted) {
		return
	}
	metadata := wanted.MetaData
	namespace := metadata.KubernetesMetaData.Namespace
	if wanted.Name == "" || namespace == "" || metadata.Hostname == "" {
		refuse(writer, http.StatusBadRequest, "incomplete integration ID. At least 'name','namespace' and 'nodename' must be set")
		return
	}
	for id, known := range s.integrations {
		if known.Name == wanted.Name && known.MetaData.KubernetesMetaData.Namespace == namespace {
			// A known registration keeps its subscriptions (recording 01-registration).
			answer(writer, http.StatusOK, map[string]any{"id": id})
			return
		}
	}
	sum := sha1.Sum(fmt.Appendf(nil, "%s-%s-%s", wanted.Name, namespace, metadata.Hostname)) //nolint:gosec // as Keptn does
	id := hex.EncodeToString(sum[:])
	wanted.ID = id
	for index := range wanted.Subscriptions {
		wanted.Subscriptions[index].ID = s.options.NewID()
	}
	wanted.MetaData.LastSeen = time.Now().UTC()
	s.integrations[id] = &wanted
	answer(writer, http.StatusCreated, map[string]any{"id": id})
}

func (s *Server) integration(writer http.ResponseWriter, request *http.Request) *models.Integration {
	found := s.integrations[request.PathValue("id")]
	if found == nil {
		refuse(writer, http.StatusNotFound, "uniform integration not found")
	}
	return found
}

func (s *Server) ping(writer http.ResponseWriter, request *http.Request) {
	if found := s.integration(writer, request); found != nil {
		found.MetaData.LastSeen = time.Now().UTC()
		answer(writer, http.StatusOK, found)
	}
}

func (s *Server) listIntegrations(writer http.ResponseWriter, request *http.Request) {
	found, wanted := []models.Integration{}, request.URL.Query().Get("id")
	for id, known := range s.integrations {
		if matches(wanted, id) {
			found = append(found, *known)
		}
	}
	answer(writer, http.StatusOK, found)
}

func (s *Server) unregister(writer http.ResponseWriter, request *http.Request) {
	if s.integration(writer, request) != nil {
		delete(s.integrations, request.PathValue("id"))
		answer(writer, http.StatusOK, map[string]any{})
	}
}

func (s *Server) subscribe(writer http.ResponseWriter, request *http.Request) {
	found := s.integration(writer, request)
	if found == nil {
		return
	}
	var subscription models.EventSubscription
	if !decode(writer, request, &subscription) {
		return
	}
	subscription.ID = s.options.NewID()
	found.Subscriptions = append(found.Subscriptions, subscription)
	answer(writer, http.StatusCreated, map[string]any{"id": subscription.ID})
}

func (s *Server) unsubscribe(writer http.ResponseWriter, request *http.Request) {
	found := s.integration(writer, request)
	if found == nil {
		return
	}
	found.Subscriptions = slices.DeleteFunc(found.Subscriptions, func(subscription models.EventSubscription) bool {
		return subscription.ID == request.PathValue("subscription")
	})
	answer(writer, http.StatusOK, map[string]any{})
}

func (s *Server) postLog(writer http.ResponseWriter, request *http.Request) {
	var body struct {
		Logs []models.LogEntry `json:"logs"`
	}
	if !decode(writer, request, &body) {
		return
	}
	for _, entry := range body.Logs {
		if entry.Time.IsZero() {
			entry.Time = time.Now().UTC()
		}
		s.logs = append(s.logs, entry)
	}
	answer(writer, http.StatusOK, map[string]any{})
}

func (s *Server) listLog(writer http.ResponseWriter, request *http.Request) {
	found, wanted := []models.LogEntry{}, request.URL.Query().Get("integrationId")
	for _, entry := range slices.Backward(s.logs) {
		if matches(wanted, entry.IntegrationID) {
			found = append(found, entry)
		}
	}
	answer(writer, http.StatusOK, map[string]any{"logs": found, "totalCount": len(found)})
}
