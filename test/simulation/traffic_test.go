package simulation

import (
	"net/http"
	"strings"
	"time"

	"github.com/job-executor/job-executor/functions/bridge"
)

// traffic is what the functions ask of others.
type traffic struct {
	// posts are those to the Broker by event, and questions those to Keptn by its context.
	posts, questions map[string]int
	// calls are those of the Kubernetes API.
	calls int
}

func newTraffic() traffic { return traffic{posts: map[string]int{}, questions: map[string]int{}} }

// happen counts that something happened.
func (world *world) happen(what string) {
	world.mutex.Lock()
	defer world.mutex.Unlock()
	world.happened[what]++
}

// post counts a request to the Broker.
func (world *world) post(request *http.Request) {
	if !strings.HasPrefix(request.URL.Host, "broker-ingress.") {
		return
	}
	world.mutex.Lock()
	defer world.mutex.Unlock()
	world.traffic.posts[request.Header.Get("Ce-Type")+" "+request.Header.Get("Ce-Id")]++
}

// called counts a call of the Kubernetes API.
func (world *world) called() {
	world.mutex.Lock()
	defer world.mutex.Unlock()
	world.traffic.calls++
}

// volume is how much traffic there was so far.
type volume struct{ posts, questions, requests, calls int }

func (world *world) volume() volume {
	world.mutex.Lock()
	defer world.mutex.Unlock()
	sum := volume{questions: world.questions, requests: world.requests, calls: world.traffic.calls}
	for _, posts := range world.traffic.posts {
		sum.posts += posts
	}
	return sum
}

// judgeQuiet looks at the traffic of a time in which nothing is under way. Then Keptn is only
// pinged, and asked for new events: of each type once a second over HTTP, and every other minute
// over NATS, with a page for each. Jobs are only listed where they cannot be watched.
func (world *world) judgeQuiet(before, after volume, length time.Duration) {
	perMinute := 5
	if world.transport == bridge.HTTP {
		perMinute = 65
	}
	minutes := int(length.Minutes())
	requests := (len(world.types()) + 1) * perMinute * minutes
	if after.posts > before.posts || after.questions > before.questions || after.requests-before.requests > requests || after.calls-before.calls > 2*minutes {
		world.violate("although all tasks have ended, the traffic grew from %+v to %+v in %s, and may grow by %d requests to Keptn", before, after, length, requests)
	}
}

// judgeTraffic looks whether anybody was asked too often about one event or one sequence.
func (world *world) judgeTraffic() {
	minutes := int(time.Since(world.began).Minutes())
	world.mutex.Lock()
	posts, questions := world.traffic.posts, world.traffic.questions
	world.mutex.Unlock()
	const posted, asked = 20, 100 // within the first minutes, in which most is retried
	for event, times := range posts {
		if times > posted+minutes {
			world.violate("event %s was posted %d times in %d minutes", event, times, minutes)
		}
	}
	const perMinute = 6
	for keptnContext, times := range questions {
		if times > asked+perMinute*minutes {
			world.violate("Keptn was asked %d times in %d minutes about %s", times, minutes, keptnContext)
		}
	}
}
