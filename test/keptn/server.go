package keptn

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/keptn/go-utils/pkg/api/models"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Options are the settings of a control plane, and its faults.
type Options struct {
	// Directory has its stream and repositories.
	Directory string
	// Token is the required x-token of the gateway.
	Token string
	// DispatchDelay is the time between listing and dispatching a task's event, in which a started event is
	// dropped. A real Keptn takes some 60 ms.
	DispatchDelay time.Duration
	// StartedWait is how long a triggered task may be unanswered before its sequence times out (Keptn's
	// TASK_STARTED_WAIT_DURATION, ten minutes by default); 0 is unlimited.
	StartedWait time.Duration
	// AckWait is when the stream redelivers an event that shipyard-controller has not acknowledged; 0 is the
	// recorded half minute.
	AckWait time.Duration
	// ValidateEvents enables Keptn's event validation (recording 71-validation-on).
	ValidateEvents bool
	// Fault returns the fault of a request to the gateway; nil is none.
	Fault func(request *http.Request) Fault
	// Drop reports whether an event of a type is lost after it was accepted; nil loses none.
	Drop func(eventType string) bool
	// Unstored reports whether mongodb-datastore is down: it does not answer, and never gets this event, which is empty
	// for a request; nil is never.
	Unstored func(eventType string) bool
	// Counted is called for every counted event, with its source.
	Counted func(triggeredID, eventType, source string)
	// Now is the clock of its events; nil is time.Now.
	Now func() time.Time
	// NewID creates ids of events; nil creates random UUIDs.
	NewID func() string
	// NATSAddress, GatewayAddress, ControlPlaneAddress, ResourceAddress and DatastoreAddress are its listen
	// addresses; port 0 is any free one.
	NATSAddress, GatewayAddress, ControlPlaneAddress, ResourceAddress, DatastoreAddress string
	Log                                                                                 *slog.Logger
}

// Fault is the fault of a request.
type Fault struct {
	// Delay holds the request up.
	Delay time.Duration
	// Status replaces Keptn's response, unless it is 0.
	Status int
	// Close closes the connection without a response.
	Close bool
}

// Server is a running control plane.
type Server struct {
	options   Options
	publisher func(subject string, content []byte) error
	nats      *server.Server
	conn      *nats.Conn
	stream    jetstream.JetStream
	servers   []*http.Server
	consumer  jetstream.Consumer
	consume   jetstream.ConsumeContext
	// down is true while shipyard-controller is stopped.
	down atomic.Bool

	// NATSURL, GatewayURL (ending in /api), ControlPlaneURL, ResourceURL and DatastoreURL are its addresses for
	// an integration.
	NATSURL, GatewayURL, ControlPlaneURL, ResourceURL, DatastoreURL string

	faults faults

	mutex      sync.Mutex
	projects   map[string]*project
	executions []*execution
	// answered has the triggered events that somebody has answered, counted or not.
	answered map[string]bool
	open     []*openEvent
	// events are the stored events of mongodb-datastore, and stored their ids.
	events []message
	stored map[string]bool
	// evaluations has lighthouse-service's evaluations by the id of its get-sli.triggered.
	evaluations  map[string]evaluation
	integrations map[string]*models.Integration
	logs         []models.LogEntry
	denied       int
	deniedUntil  time.Time
}

const (
	streamName      = "keptn"
	startupTime     = 10 * time.Second
	recordedAckWait = 30 * time.Second
	maxBody         = 5 << 20 // the gateway's limit (recording 52-oversize-http)
)

// New returns a control plane without projects, network and stream. The publish function must call Hear with
// everything that is published, and Handle with the stream's deliveries.
func New(options Options, publish func(subject string, content []byte) error) *Server {
	if options.Drop == nil {
		options.Drop = func(string) bool { return false }
	}
	if options.Unstored == nil {
		options.Unstored = func(string) bool { return false }
	}
	if options.Fault == nil {
		options.Fault = func(*http.Request) Fault { return Fault{} }
	}
	if options.Counted == nil {
		options.Counted = func(string, string, string) {}
	}
	if options.NewID == nil {
		options.NewID = uuid.NewString
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	return &Server{options: options, publisher: publish, projects: map[string]*project{}, answered: map[string]bool{}, stored: map[string]bool{}, evaluations: map[string]evaluation{}, integrations: map[string]*models.Integration{}}
}

// Gateway returns the control plane as seen from outside its cluster, below /api.
func (s *Server) Gateway() http.Handler {
	gateway := http.NewServeMux()
	gateway.Handle("/api/controlPlane/v1/", s.authenticated(http.StripPrefix("/api/controlPlane", s.controlPlane())))
	gateway.Handle("/api/resource-service/v1/", s.authenticated(http.StripPrefix("/api/resource-service", unescapedOnce(s.resources()))))
	gateway.Handle("/api/mongodb-datastore/event", s.authenticated(http.HandlerFunc(s.listEvents)))
	gateway.Handle("POST /api/v1/event", s.authenticated(http.HandlerFunc(s.postEvent)))
	gateway.Handle("POST /api/faults", s.authenticated(http.HandlerFunc(s.faults.set)))
	return s.faulty(bounded(s.faults.through(gateway)))
}

// faulty injects faults into requests.
func (s *Server) faulty(next http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		fault := s.options.Fault(request)
		if fault.Delay > 0 {
			select {
			case <-request.Context().Done():
			case <-time.After(fault.Delay):
			}
		}
		switch {
		case fault.Close:
			panic(http.ErrAbortHandler)
		case fault.Status != 0:
			page(writer, fault.Status)
		default:
			next.ServeHTTP(writer, request)
		}
	})
}

// bounded enforces the gateway's limit of requests (recording 52-oversize-http).
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if request.ContentLength > maxBody {
			page(writer, http.StatusRequestEntityTooLarge)
			return
		}
		next.ServeHTTP(writer, request)
	})
}

// page responds with nginx' own page.
func page(writer http.ResponseWriter, status int) {
	title := fmt.Sprintf("%d %s", status, http.StatusText(status))
	writer.Header().Set("Content-Type", "text/html")
	writer.WriteHeader(status)
	_, _ = fmt.Fprintf(writer, "<html>\r\n<head><title>%[1]s</title></head>\r\n<body>\r\n<center><h1>%[1]s</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n", title)
}

// StopController stops shipyard-controller: its API is down, and events remain on the stream.
func (s *Server) StopController() {
	s.down.Store(true)
	s.consume.Stop()
	<-s.consume.Closed()
}

// StartController starts shipyard-controller again.
func (s *Server) StartController() error {
	s.down.Store(false)
	return s.listen()
}

// Start starts a control plane without projects. Close stops it.
func Start(ctx context.Context, options Options) (*Server, error) {
	keptn := New(options, nil)
	if err := keptn.startNATS(ctx); err != nil {
		keptn.Close()
		return nil, err
	}
	for _, service := range []struct {
		address string
		handler http.Handler
		url     *string
		suffix  string
	}{
		{options.GatewayAddress, keptn.Gateway(), &keptn.GatewayURL, "/api"},
		{options.ControlPlaneAddress, keptn.faults.through(keptn.controlPlane()), &keptn.ControlPlaneURL, "/v1"},
		{options.ResourceAddress, keptn.resources(), &keptn.ResourceURL, "/v1"},
		{options.DatastoreAddress, http.HandlerFunc(keptn.listEvents), &keptn.DatastoreURL, ""},
	} {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", service.address)
		if err != nil {
			keptn.Close()
			return nil, fmt.Errorf("listening: %w", err)
		}
		*service.url = "http://" + listener.Addr().String() + service.suffix
		running := &http.Server{Handler: http.MaxBytesHandler(service.handler, maxBody), ReadHeaderTimeout: startupTime}
		keptn.servers = append(keptn.servers, running)
		go func() { _ = running.Serve(listener) }()
	}
	return keptn, nil
}

func (s *Server) startNATS(ctx context.Context) error {
	host, port, err := net.SplitHostPort(s.options.NATSAddress)
	if err != nil {
		return fmt.Errorf("NATS address: %w", err)
	}
	options := &server.Options{
		Host: host, JetStream: true, StoreDir: filepath.Join(s.options.Directory, "jetstream"),
		NoSigs: true, NoLog: true, JetStreamMaxStore: 1 << 30, JetStreamMaxMemory: 64 << 20,
	}
	if _, err := fmt.Sscan(port, &options.Port); err != nil {
		return fmt.Errorf("NATS port: %w", err)
	}
	if options.Port == 0 {
		options.Port = server.RANDOM_PORT
	}
	if s.nats, err = server.NewServer(options); err != nil {
		return fmt.Errorf("NATS: %w", err)
	}
	s.nats.Start()
	if !s.nats.ReadyForConnections(startupTime) {
		return errors.New("NATS did not start")
	}
	s.NATSURL = s.nats.ClientURL()
	if s.conn, err = nats.Connect(s.NATSURL); err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	s.publisher = s.conn.Publish
	if _, err = s.conn.Subscribe("sh.keptn.>", func(message *nats.Msg) { s.Hear(message.Data) }); err != nil {
		return fmt.Errorf("subscribe to NATS: %w", err)
	}
	if s.stream, err = jetstream.New(s.conn); err != nil {
		return fmt.Errorf("JetStream: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startupTime)
	defer cancel()
	// As recorded in 56-jetstream.
	_, err = s.stream.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: streamName, Subjects: []string{"sh.keptn.>"}, Retention: jetstream.LimitsPolicy,
		Storage: jetstream.FileStorage, Duplicates: 2 * time.Minute,
	})
	if err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	s.consumer, err = s.stream.CreateOrUpdateConsumer(ctx, streamName, jetstream.ConsumerConfig{
		Durable: "shipyard-controller:all-events", AckPolicy: jetstream.AckExplicitPolicy, AckWait: cmp.Or(s.options.AckWait, recordedAckWait),
		FilterSubject: "sh.keptn.>", MaxAckPending: 1000,
	})
	if err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	return s.listen()
}

// listen handles published events.
func (s *Server) listen() (err error) {
	s.consume, err = s.consumer.Consume(func(message jetstream.Msg) {
		s.faults.handle(message.Data(), s.Handle)
		_ = message.Ack()
	})
	return err
}

// Close stops the control plane.
func (s *Server) Close() {
	for _, running := range s.servers {
		_ = running.Close()
	}
	if s.consume != nil {
		s.consume.Stop()
	}
	if s.conn != nil {
		s.conn.Close()
	}
	if s.nats != nil {
		s.nats.Shutdown()
		s.nats.WaitForShutdown()
	}
}

// authenticated is the gateway's check of the API token. Two wrong tokens from an address cause 429 for a
// second, even for right ones (recording 01-registration).
func (s *Server) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		s.mutex.Lock()
		now := time.Now()
		wrong := request.Header.Get("x-token") != s.options.Token
		limited := now.Before(s.deniedUntil) && s.denied >= 2
		if wrong && !limited {
			if now.After(s.deniedUntil) {
				s.denied = 0
			}
			s.denied++
			s.deniedUntil = now.Add(time.Second)
		}
		s.mutex.Unlock()
		switch {
		case limited:
			plain(writer, http.StatusTooManyRequests, `{"code":429, "message":"too many requests"}`)
		case wrong:
			plain(writer, http.StatusUnauthorized, `{"code":401, "message":"unauthenticated or invalid credentials"}`)
		case request.Method == http.MethodDelete && strings.HasSuffix(request.URL.Path, "/v1/log"):
			page(writer, http.StatusForbidden)
		default:
			next.ServeHTTP(writer, request)
		}
	})
}

func plain(writer http.ResponseWriter, status int, text string) {
	writer.Header().Set("Content-Type", "text/plain")
	writer.WriteHeader(status)
	_, _ = writer.Write([]byte(text))
}

func answer(writer http.ResponseWriter, status int, body any) {
	writer.Header().Set("Content-Type", "application/json; charset=utf-8")
	writer.WriteHeader(status)
	_ = json.NewEncoder(writer).Encode(body)
}

func refuse(writer http.ResponseWriter, status int, message string) {
	answer(writer, status, map[string]any{"code": status, "message": message})
}

// decode decodes a request's JSON body. On failure it responds and returns false.
func decode(writer http.ResponseWriter, request *http.Request, body any) bool {
	err := json.NewDecoder(request.Body).Decode(body)
	if err != nil {
		refuse(writer, http.StatusBadRequest, err.Error())
	}
	return err == nil
}

func repositoryDirectory(options Options, name string) (string, error) {
	directory := filepath.Join(options.Directory, "repositories", name)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return "", fmt.Errorf("create the repository's directory: %w", err)
	}
	return directory, nil
}
