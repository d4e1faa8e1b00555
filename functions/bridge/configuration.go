package bridge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/keptn/go-utils/pkg/api/models"
	natsclient "github.com/nats-io/nats.go"

	"github.com/job-executor/job-executor/functions/bridge/nats"
	"github.com/job-executor/job-executor/functions/election"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn/api"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Configuration is the bridge's environment.
type Configuration struct {
	Broker function.Sink
	// OwnExecutors are the tasks with an executor of their own. All others share one.
	OwnExecutors []string `env:"OWN_EXECUTORS" envDefault:"deployment,test,release,rollback,action,get-sli"`
	// TraceURL is the address of a trace in a viewer, with {traceID} as a placeholder; empty for no links.
	TraceURL     string `env:"TRACE_URL"`
	Keptn        KeptnConfiguration
	OAuth        OAuthConfiguration
	NATS         nats.Configuration
	Timing       TimingConfiguration
	Registration RegistrationConfiguration
	Grants       GrantConfiguration
	Pod          PodConfiguration
}

// KeptnConfiguration is Keptn's addresses and limits.
type KeptnConfiguration struct {
	Transport Transport `env:"KEPTN_TRANSPORT,notEmpty"`
	// APIURL is Keptn's external address, ending in /api.
	APIURL string `env:"KEPTN_API_URL"`
	// BridgeURL is the address of Keptn's web page, ending in /bridge. By default it is derived from APIURL.
	BridgeURL string `env:"KEPTN_BRIDGE_URL"`
	// APIToken is Keptn's API token. Only Keptn ever gets it.
	APIToken string `env:"KEPTN_API_TOKEN"`
	// ControlPlaneURL, ResourceServiceURL and DatastoreURL are the addresses of Keptn's services inside its
	// cluster.
	ControlPlaneURL    string `env:"KEPTN_CONTROL_PLANE_URL"`
	ResourceServiceURL string `env:"KEPTN_RESOURCE_SERVICE_URL"`
	DatastoreURL       string `env:"KEPTN_DATASTORE_URL"`
	// CACertificates are PEM certificate authorities, trusted besides the system's, for Keptn's API,
	// the identity provider and NATS.
	CACertificates string `env:"KEPTN_CA_CERTIFICATES"`
	// MaxEventBytes is the largest event that Keptn accepts. Larger events are truncated. With Keptn's event
	// validation it is 64 KiB; the bridge learns that from Keptn's first refusal.
	MaxEventBytes int `env:"KEPTN_MAX_EVENT_BYTES" envDefault:"1000000"`
}

// Transport is how events are exchanged with Keptn.
type Transport string

// The transports.
const (
	// NATS requires a bridge inside Keptn's cluster.
	NATS Transport = "nats"
	// HTTP polls Keptn's API, for a remote execution plane.
	HTTP Transport = "http"
)

// page returns the address of Keptn's web page, empty if unknown.
func (k KeptnConfiguration) page() string {
	if k.BridgeURL != "" {
		return strings.TrimSuffix(k.BridgeURL, "/")
	}
	beside, isBeside := strings.CutSuffix(strings.TrimSuffix(k.APIURL, "/"), "/api")
	if !isBeside {
		return ""
	}
	return beside + "/bridge"
}

// UnmarshalText parses a transport.
func (t *Transport) UnmarshalText(text []byte) error {
	switch *t = Transport(text); *t {
	case NATS, HTTP:
		return nil
	default:
		return fmt.Errorf("must be nats or http, not %q", text)
	}
}

// OAuthConfiguration replaces the API token if Keptn is behind an identity provider. Either DiscoveryURL or
// TokenURL is required.
type OAuthConfiguration struct {
	ClientID     string   `env:"KEPTN_OAUTH_CLIENT_ID"`
	ClientSecret string   `env:"KEPTN_OAUTH_CLIENT_SECRET"`
	Scopes       []string `env:"KEPTN_OAUTH_SCOPES"`
	TokenURL     string   `env:"KEPTN_OAUTH_TOKEN_URL"`
	DiscoveryURL string   `env:"KEPTN_OAUTH_DISCOVERY_URL"`
}

// TimingConfiguration is how often Keptn is asked, and how long the bridge waits for it.
type TimingConfiguration struct {
	// PollInterval is the interval of listing open events over HTTP.
	PollInterval time.Duration `env:"KEPTN_POLL_INTERVAL" envDefault:"1s"`
	// ResyncInterval is the interval of listing over NATS, and the pause before an event that nobody started is
	// published again.
	ResyncInterval time.Duration `env:"KEPTN_RESYNC_INTERVAL" envDefault:"1m"`
	// LossTimeout is when an accepted event that Keptn has not counted is resent. It must be longer than events
	// stay in Keptn's stream.
	LossTimeout  time.Duration `env:"KEPTN_LOSS_TIMEOUT" envDefault:"6m"`
	PingInterval time.Duration `env:"KEPTN_PING_INTERVAL" envDefault:"10s"`
}

// RegistrationConfiguration is this integration's registration with Keptn.
type RegistrationConfiguration struct {
	// Subscriptions are the event types of the first registration. Later they are edited in Keptn's web page.
	Subscriptions []string `env:"KEPTN_SUBSCRIPTIONS,notEmpty"`
	Name          string   `env:"KEPTN_INTEGRATION_NAME" envDefault:"job-executor"`
	Location      string   `env:"KEPTN_LOCATION" envDefault:"execution-plane"`
	// Deployment is the bridge's Deployment. When it is deleted, the integration is unregistered.
	Deployment string `env:"DEPLOYMENT_NAME" envDefault:"bridge"`
}

// GrantConfiguration has the receivers of grants and the key's Secret.
type GrantConfiguration struct {
	// FilesPort serves files to executors and Jobs, apart from events.
	FilesPort int `env:"FILES_PORT" envDefault:"8081"`
	// Secret is the name of the Secret with the key that signs grants.
	Secret   string        `env:"GRANT_SECRET" envDefault:"bridge-grant-key"`
	Lifetime time.Duration `env:"GRANT_LIFETIME" envDefault:"24h"`
	// Subjects are the service accounts that may ask for grants.
	Subjects []string `env:"GRANT_SUBJECTS,notEmpty"`
}

// PodConfiguration identifies this pod, and the Lease of the election.
type PodConfiguration struct {
	election.Pod
	NodeName string `env:"NODE_NAME,notEmpty"`
	Lease    string `env:"LEASE_NAME" envDefault:"bridge"`
}

// Validate returns an error that names every invalid variable, and every invalid combination.
func (c Configuration) Validate() error {
	_, tlsErr := c.Keptn.tls()
	failures := []error{tlsErr, c.NATS.Validate(), c.OAuth.validate(c.Keptn.APIToken)}
	for _, required := range []struct {
		transport   Transport
		name, value string
	}{
		{HTTP, "KEPTN_API_URL", c.Keptn.APIURL},
		{NATS, "KEPTN_NATS_URL", c.NATS.URL},
		{NATS, "KEPTN_CONTROL_PLANE_URL", c.Keptn.ControlPlaneURL},
		{NATS, "KEPTN_RESOURCE_SERVICE_URL", c.Keptn.ResourceServiceURL},
		{NATS, "KEPTN_DATASTORE_URL", c.Keptn.DatastoreURL},
	} {
		if required.transport == c.Keptn.Transport && required.value == "" {
			failures = append(failures, fmt.Errorf("environment variable %s: required if KEPTN_TRANSPORT is %s", required.name, required.transport))
		}
	}
	if c.Keptn.Transport == HTTP && c.Keptn.APIToken == "" && c.OAuth.ClientID == "" {
		failures = append(failures, errors.New("environment variable KEPTN_API_TOKEN: required if KEPTN_TRANSPORT is http, unless KEPTN_OAUTH_CLIENT_ID is set; put it into Secret keptn"))
	}
	return errors.Join(failures...)
}

func (o OAuthConfiguration) validate(apiToken string) error {
	switch {
	case o.ClientID == "":
		return nil
	case apiToken != "":
		return errors.New("environment variables KEPTN_API_TOKEN and KEPTN_OAUTH_CLIENT_ID: set one of them")
	case o.ClientSecret == "":
		return errors.New("environment variable KEPTN_OAUTH_CLIENT_SECRET: required if KEPTN_OAUTH_CLIENT_ID is set")
	case o.TokenURL == "" && o.DiscoveryURL == "":
		return errors.New("environment variable KEPTN_OAUTH_DISCOVERY_URL: required if KEPTN_OAUTH_CLIENT_ID is set and KEPTN_OAUTH_TOKEN_URL is not")
	default:
		return nil
	}
}

const (
	// keptnTimeout bounds one call of Keptn's API.
	keptnTimeout    = 30 * time.Second
	idleConnections = 32
)

// client returns a client of Keptn's API. Without a transport, it verifies TLS with the system's certificate
// authorities and those of KEPTN_CA_CERTIFICATES.
func (c Configuration) client(transport http.RoundTripper, source string, current *secrets, log *slog.Logger) (*api.Client, error) {
	if transport == nil {
		settings, err := c.Keptn.tls()
		if err != nil {
			return nil, err
		}
		own := http.DefaultTransport.(*http.Transport).Clone()
		own.TLSClientConfig, own.MaxIdleConnsPerHost = settings, idleConnections
		transport = own
	}
	if oauth := c.OAuth; oauth.ClientID != "" {
		transport = api.OAuth{
			ClientID: oauth.ClientID, ClientSecret: current.clientSecret, Scopes: oauth.Scopes, TokenURL: oauth.TokenURL, DiscoveryURL: oauth.DiscoveryURL,
		}.Transport(transport, api.NewHTTPClient(transport, keptnTimeout))
	}
	endpoints := api.GatewayEndpoints(c.Keptn.APIURL)
	if c.Keptn.Transport == NATS {
		endpoints = api.Endpoints{
			ControlPlane: strings.TrimSuffix(c.Keptn.ControlPlaneURL, "/"),
			Resources:    strings.TrimSuffix(c.Keptn.ResourceServiceURL, "/"),
			Datastore:    strings.TrimSuffix(c.Keptn.DatastoreURL, "/"),
		}
	}
	return &api.Client{Endpoints: endpoints, Token: current.apiToken, HTTP: api.NewHTTPClient(transport, keptnTimeout), Source: source, Logger: log}, nil
}

// tls returns the TLS configuration for Keptn.
func (k KeptnConfiguration) tls() (*tls.Config, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if k.CACertificates == "" {
		return settings, nil
	}
	var err error
	if settings.RootCAs, err = function.Authorities(k.CACertificates); err != nil {
		return nil, fmt.Errorf("environment variable KEPTN_CA_CERTIFICATES: %w", err)
	}
	return settings, nil
}

// installation identifies this installation among others on the same Keptn.
func (c Configuration) installation(separator string) string {
	return c.Registration.Name + separator + c.Pod.Namespace
}

// natsOptions returns the options for a connection to NATS. The CA of Keptn is trusted there, too.
func (c Configuration) natsOptions(current func() nats.Configuration) ([]natsclient.Option, error) {
	if c.Keptn.CACertificates == "" {
		return c.NATS.Options(nil, current)
	}
	settings, err := c.Keptn.tls()
	if err != nil {
		return nil, err
	}
	return c.NATS.Options(settings, current)
}

// integration returns the registration of this installation.
func (c Configuration) integration() models.Integration {
	registration, pod := c.Registration, c.Pod
	integration := models.Integration{
		Name: registration.Name,
		MetaData: models.MetaData{
			Hostname:           pod.NodeName,
			Location:           registration.Location,
			IntegrationVersion: telemetry.Version(),
			KubernetesMetaData: models.KubernetesMetaData{Namespace: pod.Namespace, PodName: pod.Name, DeploymentName: registration.Deployment},
		},
	}
	for _, eventType := range registration.Subscriptions {
		integration.Subscriptions = append(integration.Subscriptions, models.EventSubscription{
			Event: strings.TrimSpace(eventType), Filter: models.EventSubscriptionFilter{Projects: []string{}, Stages: []string{}, Services: []string{}},
		})
	}
	return integration
}
