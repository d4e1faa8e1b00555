package bridge

import (
	"log/slog"
	"sync"
	"time"

	"github.com/job-executor/job-executor/functions/bridge/nats"
)

// secrets are the parts of a configuration that are secret, as they are now.
type secrets struct {
	reload func() (Configuration, error)
	now    func() time.Time
	log    *slog.Logger

	mutex sync.Mutex
	last  Configuration
	read  time.Time
}

// newSecrets returns those of a configuration; reload reads them again, nil never.
func newSecrets(configuration Configuration, dependencies Dependencies) *secrets {
	return &secrets{reload: dependencies.Reload, now: dependencies.Now, log: dependencies.Telemetry.Log, last: configuration}
}

// secretsFreshFor is for how long secrets are used before they are read again.
const secretsFreshFor = 10 * time.Second

// current returns a configuration of which only what is secret may be used: the rest does not
// change while the bridge runs. What can't be read, or is not valid, leaves the last one.
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
		s.log.Warn("the secrets can't be read again; those from before are used", "error", err)
		return s.last
	}
	s.last = configuration
	return configuration
}

func (s *secrets) apiToken() string         { return s.current().Keptn.APIToken }
func (s *secrets) clientSecret() string     { return s.current().OAuth.ClientSecret }
func (s *secrets) nats() nats.Configuration { return s.current().NATS }
