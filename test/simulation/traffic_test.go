package simulation

import (
	"net/http"
	"strings"
	"time"

	"github.com/job-executor/job-executor/functions/bridge"
)

// traffic counts the functions' requests.
type traffic struct {
	// posts are the requests to the Broker by event, and questions the requests to Keptn by context.
	posts, questions map[string]int
	// calls are the calls of the Kubernetes API.
	calls int
}

func newTraffic() traffic { return traffic{posts: map[string]int{}, questions: map[string]int{}} }

// happen counts an occurrence.
func (w *world) happen(what string) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.happened[what]++
}

// post counts a request to the Broker.
func (w *world) post(request *http.Request) {
	if !strings.HasPrefix(request.URL.Host, "broker-ingress.") {
		return
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.traffic.posts[request.Header.Get("Ce-Type")+" "+request.Header.Get("Ce-Id")]++
}

// called counts a call of the Kubernetes API.
func (w *world) called() {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.traffic.calls++
}

// volume is the total of all traffic so far.
type volume struct{ posts, questions, requests, calls int }

func (w *world) volume() volume {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	sum := volume{questions: w.questions, requests: w.requests, calls: w.traffic.calls}
	for _, posts := range w.traffic.posts {
		sum.posts += posts
	}
	return sum
}

// judgeQuiet checks the traffic of an idle system. Keptn is only pinged and asked for new events: each type
// once a second over HTTP, and every other minute over NATS, with a page each. Jobs are only listed in
// namespaces that cannot be watched.
func (w *world) judgeQuiet(before, after volume, length time.Duration) {
	perMinute := 5
	if w.transport == bridge.HTTP {
		perMinute = 65
	}
	minutes := int(length.Minutes())
	requests := (len(w.types()) + 1) * perMinute * minutes
	if after.posts > before.posts || after.questions > before.questions || after.requests-before.requests > requests || after.calls-before.calls > 2*minutes {
		w.violate("although all tasks have ended, the traffic grew from %+v to %+v in %s, and may grow by %d requests to Keptn", before, after, length, requests)
	}
}

// judgeTraffic checks that no neighbour was asked too often about one event or one sequence.
func (w *world) judgeTraffic() {
	minutes := int(time.Since(w.began).Minutes())
	w.mutex.Lock()
	posts, questions := w.traffic.posts, w.traffic.questions
	w.mutex.Unlock()
	const posted, asked = 25, 120 // within the first minutes, which have most retries
	for event, times := range posts {
		if times > posted+minutes {
			w.violate("event %s was posted %d times in %d minutes", event, times, minutes)
		}
	}
	const perMinute = 6
	for keptnContext, times := range questions {
		if times > asked+perMinute*minutes {
			w.violate("Keptn was asked %d times in %d minutes about %s", times, minutes, keptnContext)
		}
	}
}
