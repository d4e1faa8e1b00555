package run

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
)

// Planned is one Job of a run's plan.
type Planned struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name,omitempty"`
	// Task is the task's name in job/config.yaml.
	Task string `json:"task,omitempty"`
	// Action is its action's index in job/config.yaml.
	Action int `json:"action,omitempty"`
	// Parallel is true if the Job runs at the same time as the other Jobs of its action.
	Parallel bool `json:"parallel,omitempty"`
	// Reports is true if the action reports, in a run that also has silent actions.
	Reports bool `json:"reports,omitempty"`
}

// maxTaskNameBytes bounds the name of a task in the plan, which is stored on each Job of the run.
const maxTaskNameBytes = 100

// plannedTasks is an entry of the stored plan: consecutive Jobs of one action in one namespace, whose
// names follow from their numbers. Entries without tasks describe a single Job; they were written
// before 2026-12.
type plannedTasks struct {
	Planned

	// First is the number of the first task in its action, from 1.
	First int `json:"first,omitempty"`
	// Tasks are the names of the tasks.
	Tasks []string `json:"tasks,omitempty"`
}

// EncodePlan returns the value of PlanAnnotation for a plan. It is little longer than the names of the
// tasks, because each Job of the run has it.
func EncodePlan(runID string, plan []Planned) (string, error) {
	var entries []plannedTasks
	for _, planned := range plan {
		task := planned.Task
		if len(task) > maxTaskNameBytes {
			task = strings.ToValidUTF8(task[:maxTaskNameBytes], "")
		}
		if count := len(entries); count > 0 {
			last := &entries[count-1]
			if last.Action == planned.Action && last.Namespace == planned.Namespace && planned.Name == Name(runID, last.Action, last.First+len(last.Tasks)) {
				last.Tasks = append(last.Tasks, task)
				continue
			}
		}
		first, err := strconv.Atoi(planned.Name[strings.LastIndex(planned.Name, "-")+1:])
		if err != nil {
			return "", fmt.Errorf("encode the plan: the name of Job %s: %w", planned.Name, err)
		}
		planned.Task, planned.Name = "", ""
		entries = append(entries, plannedTasks{Planned: planned, First: first, Tasks: []string{task}})
	}
	content, err := json.Marshal(entries)
	if err != nil {
		return "", fmt.Errorf("encode the plan: %w", err)
	}
	return string(content), nil
}

// PlanOf returns the plan of a Job's run. Without a plan it returns only the Job itself.
func PlanOf(job *batchv1.Job) []Planned {
	var entries []plannedTasks
	if err := json.Unmarshal([]byte(job.Annotations[PlanAnnotation]), &entries); err != nil || len(entries) == 0 {
		return []Planned{{Namespace: job.Namespace, Name: job.Name, Task: job.Annotations[TaskNameAnnotation], Action: index(*job, ActionIndexLabel)}}
	}
	var plan []Planned
	for _, entry := range entries {
		if len(entry.Tasks) == 0 {
			plan = append(plan, entry.Planned)
		}
		for number, task := range entry.Tasks {
			planned := entry.Planned
			planned.Name, planned.Task = Name(job.Labels[EventIDLabel], entry.Action, entry.First+number), task
			plan = append(plan, planned)
		}
	}
	return plan
}

// planOf returns the plan of a run. Without a plan it returns all Jobs of the run.
func planOf(jobs []batchv1.Job) []Planned {
	if jobs[0].Annotations[PlanAnnotation] != "" {
		return PlanOf(&jobs[0])
	}
	var plan []Planned
	for index := range jobs {
		plan = append(plan, PlanOf(&jobs[index])...)
	}
	return plan
}
