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
func (secrets *secrets) current() Configuration {
	secrets.mutex.Lock()
	defer secrets.mutex.Unlock()
	if secrets.reload == nil {
		return secrets.last
	}
	now := secrets.now()
	if now.Sub(secrets.read) < secretsFreshFor {
		return secrets.last
	}
	secrets.read = now
	configuration, err := secrets.reload()
	if err != nil {
		secrets.log.Warn("the secrets can't be read again; those from before are used", "error", err)
		return secrets.last
	}
	secrets.last = configuration
	return configuration
}

func (secrets *secrets) apiToken() string         { return secrets.current().Keptn.APIToken }
func (secrets *secrets) clientSecret() string     { return secrets.current().OAuth.ClientSecret }
func (secrets *secrets) nats() nats.Configuration { return secrets.current().NATS }
