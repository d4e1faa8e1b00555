package bridge

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/keptn/go-utils/pkg/api/models"

	"github.com/job-executor/job-executor/functions/keptn"
)

// Transport is how events are exchanged with Keptn.
type Transport string

// The transports.
const (
	// NATS is for a bridge inside Keptn's cluster.
	NATS Transport = "nats"
	// HTTP is for a remote execution plane: it polls Keptn's API.
	HTTP Transport = "http"
)

// Decode implements envconfig.Decoder.
func (transport *Transport) Decode(value string) error {
	switch *transport = Transport(value); *transport {
	case NATS, HTTP:
		return nil
	default:
		return errors.New("use nats or http")
	}
}

// Configuration is the bridge's environment.
type Configuration struct {
	// BrokerURL takes events to the Broker.
	BrokerURL string `envconfig:"BROKER_URL" required:"true"`

	Transport Transport `envconfig:"KEPTN_TRANSPORT" required:"true"`
	// APIURL is Keptn's address seen from outside its cluster, ending in /api.
	APIURL string `envconfig:"KEPTN_API_URL"`
	// APIToken is Keptn's API token. It never leaves this process but to Keptn.
	APIToken string `envconfig:"KEPTN_API_TOKEN"`
	// OAuthClientID and the ones after are set in place of an API token where Keptn is
	// behind an identity provider; either OAuthDiscoveryURL or OAuthTokenURL is.
	OAuthClientID     string   `envconfig:"KEPTN_OAUTH_CLIENT_ID"`
	OAuthClientSecret string   `envconfig:"KEPTN_OAUTH_CLIENT_SECRET"`
	OAuthScopes       []string `envconfig:"KEPTN_OAUTH_SCOPES"`
	OAuthDiscoveryURL string   `envconfig:"KEPTN_OAUTH_DISCOVERY_URL"`
	OAuthTokenURL     string   `envconfig:"KEPTN_OAUTH_TOKEN_URL"`
	// CACertificates are certificate authorities in PEM that are trusted besides the
	// system's, for Keptn's API, the identity provider and NATS.
	CACertificates string `envconfig:"KEPTN_CA_CERTIFICATES"`
	// NATSURL, ControlPlaneURL and ResourceServiceURL are Keptn's services inside
	// its cluster.
	NATSURL            string `envconfig:"KEPTN_NATS_URL"`
	ControlPlaneURL    string `envconfig:"KEPTN_CONTROL_PLANE_URL"`
	ResourceServiceURL string `envconfig:"KEPTN_RESOURCE_SERVICE_URL"`

	// NATSUser and the ones after identify the bridge to NATS, in one of four ways:
	// user and password, a token, an nkey's seed, or the content of a credentials file.
	NATSUser        string `envconfig:"KEPTN_NATS_USER"`
	NATSPassword    string `envconfig:"KEPTN_NATS_PASSWORD"`
	NATSToken       string `envconfig:"KEPTN_NATS_TOKEN"`
	NATSNkeySeed    string `envconfig:"KEPTN_NATS_NKEY_SEED"`
	NATSCredentials string `envconfig:"KEPTN_NATS_CREDENTIALS"`
	// NATSClientCertificate and NATSClientKey are in PEM, for a NATS that verifies its
	// clients by TLS.
	NATSClientCertificate string `envconfig:"KEPTN_NATS_CLIENT_CERTIFICATE"`
	NATSClientKey         string `envconfig:"KEPTN_NATS_CLIENT_KEY"`

	// MaxEventBytes is the largest event that Keptn takes. What is larger is cut. 64 KiB
	// is right where Keptn's event validation is on; if it is not set so, Keptn's first
	// refusal tells.
	MaxEventBytes int `envconfig:"KEPTN_MAX_EVENT_BYTES" default:"1000000"`

	// PollInterval is the time between two looks for open events over HTTP.
	PollInterval time.Duration `envconfig:"KEPTN_POLL_INTERVAL" default:"1s"`
	// ResyncInterval is the time between two looks over NATS, and after which an
	// event is sent again that nobody started.
	ResyncInterval time.Duration `envconfig:"KEPTN_RESYNC_INTERVAL" default:"1m"`
	// LossTimeout is after what time an event is sent again that Keptn took and has not
	// counted. It must be longer than events may stay in Keptn's stream.
	LossTimeout time.Duration `envconfig:"KEPTN_LOSS_TIMEOUT" default:"6m"`
	// Subscriptions are the event types that are subscribed to at the first
	// registration; later they are edited in Keptn's web page.
	Subscriptions []string `envconfig:"KEPTN_SUBSCRIPTIONS" required:"true"`
	// IntegrationName, Location and the ones after tell Keptn who this is.
	IntegrationName string        `envconfig:"KEPTN_INTEGRATION_NAME" default:"job-executor"`
	Location        string        `envconfig:"KEPTN_LOCATION" default:"execution-plane"`
	PingInterval    time.Duration `envconfig:"KEPTN_PING_INTERVAL" default:"10s"`
	Namespace       string        `envconfig:"POD_NAMESPACE" required:"true"`
	PodName         string        `envconfig:"POD_NAME" required:"true"`
	PodIP           string        `envconfig:"POD_IP" required:"true"`
	Port            int           `envconfig:"PORT" default:"8080"`
	NodeName        string        `envconfig:"NODE_NAME" required:"true"`
	// Deployment is the bridge's own: when it is deleted, the integration is
	// unregistered.
	Deployment string `envconfig:"DEPLOYMENT_NAME" default:"bridge"`
	// Lease is the name of the Lease by which one of several bridges is elected.
	Lease string `envconfig:"LEASE_NAME" default:"bridge"`

	// GrantSecret is the Secret with the key that signs grants.
	GrantSecret   string        `envconfig:"GRANT_SECRET" default:"bridge-grant-key"`
	GrantLifetime time.Duration `envconfig:"GRANT_LIFETIME" default:"24h"`
	// GrantSubjects are the service accounts that may ask for grants.
	GrantSubjects []string `envconfig:"GRANT_SUBJECTS" required:"true"`
}

// authenticate returns a transport that identifies requests to Keptn's API, if that
// is by OAuth. The error names the setting that is missing.
func (configuration Configuration) authenticate(base http.RoundTripper) (http.RoundTripper, error) {
	oauth := keptn.OAuth{
		ClientID: configuration.OAuthClientID, ClientSecret: configuration.OAuthClientSecret, Scopes: configuration.OAuthScopes,
		TokenURL: configuration.OAuthTokenURL, DiscoveryURL: configuration.OAuthDiscoveryURL,
	}
	switch {
	case oauth.ClientID == "":
		return base, nil
	case configuration.APIToken != "":
		return nil, errors.New("environment variables KEPTN_API_TOKEN and KEPTN_OAUTH_CLIENT_ID: set one of them")
	case oauth.ClientSecret == "":
		return nil, errors.New("environment variable KEPTN_OAUTH_CLIENT_SECRET: required if KEPTN_OAUTH_CLIENT_ID is set")
	case oauth.TokenURL == "" && oauth.DiscoveryURL == "":
		return nil, errors.New("environment variable KEPTN_OAUTH_DISCOVERY_URL: required if KEPTN_OAUTH_CLIENT_ID is set and KEPTN_OAUTH_TOKEN_URL is not")
	}
	return oauth.Transport(base, keptn.NewHTTPClient(base, keptnTimeout)), nil
}

// keptnTimeout bounds one call of Keptn's API.
const keptnTimeout = 30 * time.Second

// Client returns a client of Keptn's API. TLS is verified, by the system's
// certificate authorities and those of KEPTN_CA_CERTIFICATES. The error names the
// setting that is wrong.
func (configuration Configuration) Client() (*keptn.Client, error) {
	settings, err := configuration.TLS()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: settings, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: idleConnections, IdleConnTimeout: idleTimeout, TLSHandshakeTimeout: handshakeTimeout,
	}
	return configuration.ClientOver(transport)
}

const (
	idleConnections  = 32
	idleTimeout      = 90 * time.Second
	handshakeTimeout = 10 * time.Second
)

// TLS is how connections to Keptn are verified: by the system's certificate
// authorities, and by those of KEPTN_CA_CERTIFICATES.
func (configuration Configuration) TLS() (*tls.Config, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if configuration.CACertificates == "" {
		return settings, nil
	}
	authorities, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("reading the system's certificate authorities: %w", err)
	}
	if !authorities.AppendCertsFromPEM([]byte(configuration.CACertificates)) {
		return nil, errors.New("environment variable KEPTN_CA_CERTIFICATES: there is no certificate in PEM in it")
	}
	settings.RootCAs = authorities
	return settings, nil
}

// ClientOver is Client over a transport of the caller's.
func (configuration Configuration) ClientOver(transport http.RoundTripper) (*keptn.Client, error) {
	endpoints, err := configuration.Endpoints()
	if err != nil {
		return nil, err
	}
	authenticated, err := configuration.authenticate(transport)
	if err != nil {
		return nil, err
	}
	return &keptn.Client{Endpoints: endpoints, Token: configuration.APIToken, HTTP: keptn.NewHTTPClient(authenticated, keptnTimeout)}, nil
}

// Endpoints are Keptn's addresses for the transport. The error names what is
// missing.
func (configuration Configuration) Endpoints() (keptn.Endpoints, error) {
	if configuration.Transport == HTTP {
		if configuration.APIURL == "" {
			return keptn.Endpoints{}, errors.New("environment variable KEPTN_API_URL: required if KEPTN_TRANSPORT is http")
		}
		return keptn.GatewayEndpoints(configuration.APIURL), nil
	}
	for name, value := range map[string]string{
		"KEPTN_NATS_URL":             configuration.NATSURL,
		"KEPTN_CONTROL_PLANE_URL":    configuration.ControlPlaneURL,
		"KEPTN_RESOURCE_SERVICE_URL": configuration.ResourceServiceURL,
	} {
		if value == "" {
			return keptn.Endpoints{}, fmt.Errorf("environment variable %s: required if KEPTN_TRANSPORT is nats", name)
		}
	}
	return keptn.Endpoints{
		ControlPlane: strings.TrimSuffix(configuration.ControlPlaneURL, "/"),
		Resources:    strings.TrimSuffix(configuration.ResourceServiceURL, "/"),
	}, nil
}

// Integration is what Keptn is told about this installation.
func (configuration Configuration) Integration() models.Integration {
	integration := models.Integration{
		Name: configuration.IntegrationName,
		MetaData: models.MetaData{
			Hostname:           configuration.NodeName,
			Location:           configuration.Location,
			IntegrationVersion: version(),
			KubernetesMetaData: models.KubernetesMetaData{
				Namespace: configuration.Namespace, PodName: configuration.PodName, DeploymentName: configuration.Deployment,
			},
		},
	}
	for _, eventType := range configuration.Subscriptions {
		integration.Subscriptions = append(integration.Subscriptions, models.EventSubscription{
			Event: strings.TrimSpace(eventType), Filter: models.EventSubscriptionFilter{Projects: []string{}, Stages: []string{}, Services: []string{}},
		})
	}
	return integration
}

// version is that of this program's module, or the commit it was built from.
func version() string {
	information, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	if information.Main.Version != "" && information.Main.Version != "(devel)" {
		return information.Main.Version
	}
	for _, setting := range information.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return "devel"
}
