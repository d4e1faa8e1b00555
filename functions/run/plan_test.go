package run

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPlanIsReadAsItWasWritten(t *testing.T) {
	const id = "48b872a9-5c79-430f-bef2-3e5990627fa3"
	planned := func(namespace string, action, task int, name string) Planned {
		return Planned{Namespace: namespace, Name: Name(id, action, task), Task: name, Action: action, Parallel: action == 1, Reports: true}
	}
	long := strings.Repeat("x", maxTaskNameBytes+1)
	tests := []struct {
		name, annotation string
		plan, want       []Planned
	}{
		{
			name:       "Jobs of one action",
			plan:       []Planned{planned("jobs", 0, 1, "a"), planned("jobs", 0, 2, "b")},
			annotation: `[{"namespace":"jobs","reports":true,"first":1,"tasks":["a","b"]}]`,
		},
		{
			name: "several actions and namespaces, and a gap",
			plan: []Planned{planned("jobs", 0, 1, "a"), planned("load", 0, 2, "b"), planned("jobs", 0, 3, "c"), planned("jobs", 1, 1, ""), planned("jobs", 1, 4, "e")},
			annotation: `[{"namespace":"jobs","reports":true,"first":1,"tasks":["a"]},{"namespace":"load","reports":true,"first":2,"tasks":["b"]},` +
				`{"namespace":"jobs","reports":true,"first":3,"tasks":["c"]},{"namespace":"jobs","action":1,"parallel":true,"reports":true,"first":1,"tasks":[""]},` +
				`{"namespace":"jobs","action":1,"parallel":true,"reports":true,"first":4,"tasks":["e"]}]`,
		},
		{
			name:       "a long name is cut",
			plan:       []Planned{planned("jobs", 0, 1, long)},
			annotation: `[{"namespace":"jobs","reports":true,"first":1,"tasks":["` + long[1:] + `"]}]`,
			want:       []Planned{planned("jobs", 0, 1, long[1:])},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			encoded, err := EncodePlan(id, test.plan)
			if difference := cmp.Diff(test.annotation, encoded); err != nil || difference != "" {
				t.Errorf("%v (-want +got):\n%s", err, difference)
			}
			if test.want == nil {
				test.want = test.plan
			}
			job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{EventIDLabel: id}, Annotations: map[string]string{PlanAnnotation: encoded}}}
			if difference := cmp.Diff(test.want, PlanOf(job)); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

// Each Job of a run has its plan, and a run may have 100 of them (S6).
func TestPlanAddsLittleToEachJob(t *testing.T) {
	var plan []Planned
	for number := range 100 {
		plan = append(plan, Planned{Namespace: "job-executor-jobs", Name: Name("id", 0, number+1), Task: fmt.Sprintf("task %d", number)})
	}
	encoded, err := EncodePlan("id", plan)
	if err != nil || len(encoded) > 2<<10 {
		t.Errorf("it has %d bytes, %v", len(encoded), err)
	}
}
