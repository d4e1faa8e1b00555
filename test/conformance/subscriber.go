package conformance

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// Script is an event's data: the subscriber's answers by path, one per attempt. After the last one it answers
// 501.
type Script map[string][]Answer

// Answer is an answer of a subscriber.
type Answer struct {
	Status int           `json:"status"`
	Body   string        `json:"body,omitempty"`
	Delay  time.Duration `json:"delay,omitempty"`
	// Reply is the type of the reply, which has the same data.
	Reply string `json:"reply,omitempty"`
}

// Seen is a subscriber's view of an event.
type Seen struct {
	Path string `json:"path"`
	Type string `json:"type"`
	// Attempts is the number of deliveries.
	Attempts int `json:"attempts"`
	// ErrorCode and ErrorData are Knative's attributes of a dead letter, decoded.
	ErrorCode string `json:"errorCode,omitempty"`
	ErrorData string `json:"errorData,omitempty"`
}

// Subscriber answers events at any path by their scripts. GET /?id= lists its records as JSON. An event and its
// replies have the same subject.
type Subscriber struct {
	mutex sync.Mutex
	seen  map[string]map[string]*Seen
}

// NewSubscriber returns a subscriber that has seen no event.
func NewSubscriber() *Subscriber { return &Subscriber{seen: map[string]map[string]*Seen{}} }

// ServeHTTP receives an event, or lists the records.
func (s *Subscriber) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	if request.Method == http.MethodGet {
		writer.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(writer).Encode(s.of(request.URL.Query().Get("id")))
		return
	}
	received, err := binding.ToEvent(request.Context(), cehttp.NewMessageFromHttpRequest(request))
	var script Script
	if err == nil {
		err = received.DataAs(&script)
	}
	if err != nil {
		http.Error(writer, err.Error(), http.StatusUnsupportedMediaType)
		return
	}
	answer := Answer{Status: http.StatusNotImplemented}
	if attempt := s.note(request.URL.Path, received); attempt <= len(script[request.URL.Path]) {
		answer = script[request.URL.Path][attempt-1]
	}
	if answer.Delay > 0 {
		select {
		case <-request.Context().Done():
		case <-time.After(answer.Delay):
		}
	}
	if answer.Reply == "" {
		writer.WriteHeader(answer.Status)
		_, _ = writer.Write([]byte(answer.Body))
		return
	}
	reply := event.New()
	reply.SetID(received.ID() + "-reply")
	reply.SetSubject(received.ID())
	reply.SetType(answer.Reply)
	reply.SetSource("subscriber")
	_ = reply.SetData(event.ApplicationJSON, script) // it was decoded from JSON
	_ = cehttp.WriteResponseWriter(request.Context(), binding.ToMessage(&reply), answer.Status, writer)
}

// note counts an attempt and returns its number.
func (s *Subscriber) note(path string, received *event.Event) int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	id := cmp.Or(received.Subject(), received.ID())
	if s.seen[id] == nil {
		s.seen[id] = map[string]*Seen{}
	}
	seen := s.seen[id][path]
	if seen == nil {
		seen = &Seen{Path: path, Type: received.Type()}
		s.seen[id][path] = seen
	}
	seen.Attempts++
	if code, ok := received.Extensions()["knativeerrorcode"]; ok {
		seen.ErrorCode = fmt.Sprint(code)
		encoded, _ := received.Extensions()["knativeerrordata"].(string)
		decoded, _ := base64.StdEncoding.DecodeString(encoded)
		seen.ErrorData = string(decoded)
	}
	return seen.Attempts
}

func (s *Subscriber) of(id string) []Seen {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var all []Seen
	for _, seen := range s.seen[id] {
		all = append(all, *seen)
	}
	slices.SortFunc(all, func(one, other Seen) int { return cmp.Compare(one.Path, other.Path) })
	return all
}
