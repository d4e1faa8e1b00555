package simulation

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	// maxRecent bounds the remembered lines of a world.
	maxRecent = 50000
	// maxReported bounds the lines that are printed for a violation.
	maxReported = 40
)

// recent remembers the last steps and log lines of a world, to explain a violation.
type recent struct {
	mutex sync.Mutex
	lines []string
	next  int
}

func (r *recent) add(line string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if len(r.lines) < maxRecent {
		r.lines = append(r.lines, line)
		return
	}
	r.lines[r.next] = line
	r.next = (r.next + 1) % maxRecent
}

// ids matches the ids of events and Keptn contexts. The name of a Job contains that of its event.
var ids = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// about returns the last lines that mention an id of a violation.
func (r *recent) about(violation string) []string {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	found := ids.FindAllString(violation, -1)
	var lines []string
	for _, line := range slices.Concat(r.lines[r.next:], r.lines[:r.next]) {
		if slices.ContainsFunc(found, func(id string) bool { return strings.Contains(line, id) }) {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-maxReported):]
}

func TestAViolationIsExplainedByItsLastEvents(t *testing.T) {
	const ours, other = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
	var remembered recent
	for index := range maxRecent + 10 {
		remembered.add("step " + strconv.Itoa(index))
	}
	remembered.add("published " + ours)
	remembered.add("published " + other)
	remembered.add("Job job-" + ours + "-000-000 succeeded")
	want := []string{"published " + ours, "Job job-" + ours + "-000-000 succeeded"}
	if difference := cmp.Diff(want, remembered.about("after 5s: Keptn counted [] for task "+ours)); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
	if len(remembered.lines) != maxRecent || len(remembered.about("3 have not ended")) > 0 {
		t.Errorf("%d lines, or lines about no id", len(remembered.lines))
	}
	for index := range maxReported + 1 {
		remembered.add("again " + ours + " " + strconv.Itoa(index))
	}
	if lines := remembered.about(ours); len(lines) != maxReported || lines[maxReported-1] != "again "+ours+" 40" {
		t.Errorf("got %d lines", len(lines))
	}
}
