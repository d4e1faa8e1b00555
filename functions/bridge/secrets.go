package bridge

import (
	"log/slog"
	"sync"
	"time"

	"github.com/job-executor/job-executor/functions/bridge/nats"
)

// secrets returns the current secrets of a configuration.
type secrets struct {
	reload func() (Configuration, error)
	now    func() time.Time
	log    *slog.Logger

	mutex sync.Mutex
	last  Configuration
	read  time.Time
}

// newSecrets returns the secrets of a configuration. Reload reads them again; nil never does.
func newSecrets(configuration Configuration, dependencies Dependencies) *secrets {
	return &secrets{reload: dependencies.Reload, now: dependencies.Now, log: dependencies.Telemetry.Log, last: configuration}
}

// secretsFreshFor is how long secrets are used before they are read again.
const secretsFreshFor = 10 * time.Second

// current returns a configuration with the current secrets. Only the secrets may be used: other settings do not
// change while the bridge runs. If the secrets are unreadable or invalid, the last ones are used.
func (s *secrets) current() Configuration {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.reload == nil {
		return s.last
	}
	now := s.now()
	if now.Sub(s.read) < secretsFreshFor {
		return s.last
	}
	s.read = now
	configuration, err := s.reload()
	if err != nil {
		s.log.Warn("reading the secrets again failed; using the last ones", "error", err)
		return s.last
	}
	s.last = configuration
	return configuration
}

func (s *secrets) apiToken() string         { return s.current().Keptn.APIToken }
func (s *secrets) clientSecret() string     { return s.current().OAuth.ClientSecret }
func (s *secrets) nats() nats.Configuration { return s.current().NATS }
