package bridge

import (
	"errors"
	"fmt"
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
	// NATSURL, ControlPlaneURL and ResourceServiceURL are Keptn's services inside
	// its cluster.
	NATSURL            string `envconfig:"KEPTN_NATS_URL"`
	ControlPlaneURL    string `envconfig:"KEPTN_CONTROL_PLANE_URL"`
	ResourceServiceURL string `envconfig:"KEPTN_RESOURCE_SERVICE_URL"`

	// PollInterval is the time between two looks for open events over HTTP.
	PollInterval time.Duration `envconfig:"KEPTN_POLL_INTERVAL" default:"1s"`
	// ResyncInterval is the time between two looks over NATS, and after which an
	// event is sent again that nobody started.
	ResyncInterval time.Duration `envconfig:"KEPTN_RESYNC_INTERVAL" default:"1m"`
	// Subscriptions are the event types that are subscribed to at the first
	// registration; later they are edited in Keptn's web page.
	Subscriptions []string `envconfig:"KEPTN_SUBSCRIPTIONS" required:"true"`
	// IntegrationName, Location and the ones after tell Keptn who this is.
	IntegrationName string        `envconfig:"KEPTN_INTEGRATION_NAME" default:"job-executor"`
	Location        string        `envconfig:"KEPTN_LOCATION" default:"execution-plane"`
	PingInterval    time.Duration `envconfig:"KEPTN_PING_INTERVAL" default:"10s"`
	Namespace       string        `envconfig:"POD_NAMESPACE" required:"true"`
	PodName         string        `envconfig:"POD_NAME" required:"true"`
	NodeName        string        `envconfig:"NODE_NAME" required:"true"`

	// GrantSecret is the Secret with the key that signs grants.
	GrantSecret   string        `envconfig:"GRANT_SECRET" default:"bridge-grant-key"`
	GrantLifetime time.Duration `envconfig:"GRANT_LIFETIME" default:"24h"`
	// GrantSubjects are the service accounts that may ask for grants.
	GrantSubjects []string `envconfig:"GRANT_SUBJECTS" required:"true"`
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
			Hostname: configuration.NodeName,
			Location: configuration.Location,
			KubernetesMetaData: models.KubernetesMetaData{
				Namespace: configuration.Namespace, PodName: configuration.PodName, DeploymentName: "bridge",
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
