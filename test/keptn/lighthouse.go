package keptn

import (
	"encoding/json"
	"path"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// Hear passes an event to the subscribers of core NATS: mongodb-datastore stores it, and lighthouse-service
// evaluates. Unlike shipyard-controller, they receive a duplicate (K1a of a real Keptn 1.4.5).
func (s *Server) Hear(content []byte) {
	var event message
	if json.Unmarshal(content, &event) != nil || event.text("type") == "" {
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if id := event.text("id"); !s.stored[id] && !s.options.Unstored(event.text("type")) {
		s.stored[id] = true
		s.events = append(s.events, event)
	}
	switch {
	case event.text("type") == "sh.keptn.event.evaluation.triggered" && event.text("source") == controllerSource:
		s.askForSLIs(event)
	case event.text("type") == "sh.keptn.event.get-sli.finished":
		if asked, known := s.evaluations[event.text("triggeredid")]; known {
			s.evaluate(asked, event)
		}
	}
}

const lighthouseSource = "lighthouse-service"

// evaluation is an evaluation in progress.
type evaluation struct {
	triggered message
	slo       slo
}

// slo is an SLO file, as far as this lighthouse evaluates it.
type slo struct {
	Objectives []struct {
		SLI     string     `json:"sli"`
		Pass    []criteria `json:"pass"`
		Warning []criteria `json:"warning"`
		Weight  float64    `json:"weight"`
		KeySLI  bool       `json:"key_sli"`
	} `json:"objectives"`
	TotalScore struct {
		Pass    string `json:"pass"`
		Warning string `json:"warning"`
	} `json:"total_score"`
}

// criteria are met if all of their members are.
type criteria struct {
	Criteria []string `json:"criteria"`
}

// askForSLIs starts the evaluation of a service with an slo.yaml. It publishes a triggered event for the SLIs,
// which shipyard-controller does not know. Services without the file are left to other integrations.
func (s *Server) askForSLIs(triggered message) {
	project := s.projects[triggered.dataText("project")]
	if project == nil {
		return
	}
	directory := path.Join(stagesDirectory, triggered.dataText("stage"), triggered.dataText("service"))
	content, err := project.file(path.Join(directory, "slo.yaml"), triggered.text("gitcommitid"))
	asked := evaluation{triggered: triggered}
	if err != nil || yaml.Unmarshal(content, &asked.slo) != nil {
		return
	}
	s.publish(s.lighthouseEvent(triggered, "evaluation.started", map[string]any{"status": "succeeded"}))
	indicators := []string{}
	for _, objective := range asked.slo.Objectives {
		indicators = append(indicators, objective.SLI)
	}
	end := s.options.Now().UTC()
	getSLI := s.lighthouseEvent(triggered, "get-sli.triggered", map[string]any{"get-sli": map[string]any{
		"sliProvider": "job-executor", "indicators": indicators, "customFilters": []any{},
		"start": end.Add(-5 * time.Minute).Format(milliseconds), "end": end.Format(milliseconds),
	}})
	delete(getSLI, "triggeredid")
	s.evaluations[getSLI.text("id")] = asked
	s.publish(getSLI)
}

// evaluate finishes an evaluation with the SLIs of each get-sli.finished.
func (s *Server) evaluate(asked evaluation, finished message) {
	var data struct {
		Status, Result, Message string
		GetSLI                  struct {
			IndicatorValues []struct {
				Metric  string  `json:"metric"`
				Value   float64 `json:"value"`
				Success bool    `json:"success"`
			} `json:"indicatorValues"`
		} `json:"get-sli"`
	}
	content, err := json.Marshal(finished.data())
	if err == nil {
		err = json.Unmarshal(content, &data)
	}
	if err != nil || data.Status == "errored" || data.Result == "fail" {
		s.publish(s.lighthouseEvent(asked.triggered, "evaluation.finished", map[string]any{
			"status": "errored", "result": "fail", "message": data.Message, "evaluation": map[string]any{"result": "fail"},
		}))
		return
	}
	values := map[string]float64{}
	for _, indicator := range data.GetSLI.IndicatorValues {
		if indicator.Success {
			values[indicator.Metric] = indicator.Value
		}
	}
	result, score := asked.slo.evaluate(values)
	s.publish(s.lighthouseEvent(asked.triggered, "evaluation.finished", map[string]any{
		"status": "succeeded", "result": result, "evaluation": map[string]any{"result": result, "score": score},
	}))
}

// evaluate returns the result and the score in percent. A passed objective counts with its weight, and a
// warning with half of it.
func (s slo) evaluate(values map[string]float64) (result string, score float64) {
	var reached, total float64
	key := true
	for _, objective := range s.Objectives {
		if len(objective.Pass) == 0 {
			continue // for information only
		}
		weight := objective.Weight
		if weight == 0 {
			weight = 1
		}
		total += weight
		value, known := values[objective.SLI]
		switch {
		case known && meetsAny(objective.Pass, value):
			reached += weight
		case known && meetsAny(objective.Warning, value):
			reached += weight / 2
		case objective.KeySLI:
			key = false
		}
	}
	if total == 0 {
		return "pass", 0
	}
	score = 100 * reached / total
	switch {
	case !key:
		return "fail", score
	case score >= percent(s.TotalScore.Pass):
		return "pass", score
	case s.TotalScore.Warning != "" && score >= percent(s.TotalScore.Warning):
		return "warning", score
	default:
		return "fail", score
	}
}

func percent(text string) float64 {
	value, _ := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	return value
}

func meetsAny(alternatives []criteria, value float64) bool {
	for _, alternative := range alternatives {
		meets := true
		for _, criterion := range alternative.Criteria {
			meets = meets && satisfies(criterion, value)
		}
		if meets {
			return true
		}
	}
	return false
}

// satisfies compares a value with a fixed bound, such as <=600.
func satisfies(criterion string, value float64) bool {
	criterion = strings.TrimSpace(criterion)
	for _, operator := range []string{"<=", ">=", "<", ">", "="} {
		text, found := strings.CutPrefix(criterion, operator)
		if !found {
			continue
		}
		bound, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil {
			return false
		}
		switch operator {
		case "<=":
			return value <= bound
		case ">=":
			return value >= bound
		case "<":
			return value < bound
		case ">":
			return value > bound
		default:
			return value == bound
		}
	}
	return false
}

// lighthouseEvent returns an event of lighthouse-service about the task of a triggered event.
func (s *Server) lighthouseEvent(triggered message, what string, data map[string]any) message {
	all := map[string]any{"project": triggered.dataText("project"), "stage": triggered.dataText("stage"), "service": triggered.dataText("service")}
	if labels, ok := triggered.data()["labels"]; ok {
		all["labels"] = labels
	}
	for name, value := range data {
		all[name] = value
	}
	return message{
		"type": "sh.keptn.event." + what, "source": lighthouseSource, "id": s.options.NewID(), "triggeredid": triggered.text("id"),
		"time": s.options.Now().UTC().Format(time.RFC3339Nano), "specversion": "1.0", "shkeptnspecversion": "0.2.4",
		"shkeptncontext": triggered.text("shkeptncontext"), "datacontenttype": "application/json", "data": all,
	}
}

// isStorable reports whether MongoDB can store data: no NUL in a name, and at most 100 levels (K2a).
func isStorable(value any, depth int) bool {
	const maxDepth = 100
	switch value := value.(type) {
	case map[string]any:
		for name, member := range value {
			if strings.ContainsRune(name, 0) || depth == maxDepth || !isStorable(member, depth+1) {
				return false
			}
		}
	case []any:
		for _, item := range value {
			if depth == maxDepth || !isStorable(item, depth+1) {
				return false
			}
		}
	}
	return true
}
