package bridge

import (
	"log/slog"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/job-executor/job-executor/functions/bridge/nats"
	"github.com/job-executor/job-executor/functions/election"

	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn/api"
)

// settable has a valid value for each kind of setting.
var settable = map[reflect.Type]struct {
	text  string
	value any
}{
	reflect.TypeFor[string]():             {"a value", "a value"},
	reflect.TypeFor[[]string]():           {"one,other", []string{"one", "other"}},
	reflect.TypeFor[int]():                {"7", 7},
	reflect.TypeFor[time.Duration]():      {"7s", 7 * time.Second},
	reflect.TypeFor[Transport]():          {"http", HTTP},
	reflect.TypeFor[function.Overrides](): {`{"extensions":{"team":"shop"}}`, function.Overrides{"team": "shop"}},
}

// ofThePod are the variables that the manifest sets from the pod.
var ofThePod = []string{"K_SINK", "K_CE_OVERRIDES", "K_CA_CERTS", "POD_NAMESPACE", "POD_NAME", "POD_IP", "NODE_NAME", "PORT"}

func TestEverySettingIsReadAndDocumented(t *testing.T) {
	readme, err := os.ReadFile("../../config/README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| (?:`([^`]*)`)? ?\\|").FindAllStringSubmatch(string(readme), -1) {
		documented[row[1]] = row[2]
	}
	var want Configuration
	variables, defaults := map[string]string{}, map[string]string{}
	var set func(value reflect.Value)
	set = func(value reflect.Value) {
		for index := range value.NumField() {
			field := value.Type().Field(index)
			if field.Type.Kind() == reflect.Struct {
				set(value.Field(index))
				continue
			}
			name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
			sample := settable[field.Type]
			if sample.value == nil {
				t.Fatalf("there is no value for %s", field.Name)
			}
			variables[name] = sample.text
			value.Field(index).Set(reflect.ValueOf(sample.value))
			if !slices.Contains(ofThePod, name) {
				defaults[name] = field.Tag.Get("envDefault")
			}
		}
	}
	set(reflect.ValueOf(&want).Elem())
	// Some combinations would be invalid, which does not matter here.
	got, _ := function.Configure[Configuration](variables)
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("settings (-want +read):\n%s", difference)
	}
	if difference := cmp.Diff(defaults, documented); difference != "" {
		t.Errorf("settings and their defaults (-in the code +in config/README.md):\n%s", difference)
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	remote := KeptnConfiguration{Transport: HTTP, APIURL: "https://keptn.example.com/api/", APIToken: "secret"}
	inside := KeptnConfiguration{Transport: NATS, ControlPlaneURL: "c", ResourceServiceURL: "r", DatastoreURL: "http://datastore"}
	anonymous := KeptnConfiguration{Transport: HTTP, APIURL: "https://keptn.example.com/api/"}
	overNATS := func(configuration nats.Configuration) Configuration {
		configuration.URL = "nats://keptn"
		return Configuration{Keptn: inside, NATS: configuration}
	}
	oauth := OAuthConfiguration{ClientID: "id", ClientSecret: "secret", TokenURL: "https://idp.example.com/token"}
	tests := []struct {
		name          string
		configuration Configuration
		want          string
	}{
		{name: "a token", configuration: Configuration{Keptn: remote}},
		{name: "OAuth", configuration: Configuration{Keptn: anonymous, OAuth: oauth}},
		{name: "NATS", configuration: overNATS(nats.Configuration{User: "u", Password: "secret"})},
		{
			name:          "no address",
			configuration: Configuration{Keptn: KeptnConfiguration{Transport: HTTP}},
			want: "environment variable KEPTN_API_URL: required if KEPTN_TRANSPORT is http\n" +
				"environment variable KEPTN_API_TOKEN: required if KEPTN_TRANSPORT is http, unless KEPTN_OAUTH_CLIENT_ID is set; put it into Secret keptn",
		},
		{name: "no NATS", configuration: Configuration{Keptn: inside}, want: "environment variable KEPTN_NATS_URL: required if KEPTN_TRANSPORT is nats"},
		{
			name:          "both a token and OAuth",
			configuration: Configuration{Keptn: remote, OAuth: oauth},
			want:          "environment variables KEPTN_API_TOKEN and KEPTN_OAUTH_CLIENT_ID: set one of them",
		},
		{
			name:          "no OAuth secret",
			configuration: Configuration{Keptn: anonymous, OAuth: OAuthConfiguration{ClientID: "id"}},
			want:          "environment variable KEPTN_OAUTH_CLIENT_SECRET: required if KEPTN_OAUTH_CLIENT_ID is set",
		},
		{name: "no OAuth provider", configuration: Configuration{Keptn: anonymous, OAuth: OAuthConfiguration{ClientID: "id", ClientSecret: "secret"}},
			want: "environment variable KEPTN_OAUTH_DISCOVERY_URL: required if KEPTN_OAUTH_CLIENT_ID is set and KEPTN_OAUTH_TOKEN_URL is not"},
		{
			name:          "several NATS credentials",
			configuration: overNATS(nats.Configuration{User: "u", Token: "t"}),
			want:          "environment variables KEPTN_NATS_USER and KEPTN_NATS_TOKEN: set one of them",
		},
		{
			name:          "no seed",
			configuration: overNATS(nats.Configuration{NkeySeed: "secret"}),
			want:          "environment variable KEPTN_NATS_NKEY_SEED: invalid nkey seed",
		},
		{
			name:          "no certificate",
			configuration: Configuration{Keptn: KeptnConfiguration{Transport: HTTP, APIURL: "https://keptn.example.com/api", APIToken: "t", CACertificates: "secret"}},
			want:          "environment variable KEPTN_CA_CERTIFICATES: no PEM certificate found",
		},
		{
			name:          "no key",
			configuration: overNATS(nats.Configuration{ClientCertificate: "secret"}),
			want:          "environment variables KEPTN_NATS_CLIENT_CERTIFICATE and KEPTN_NATS_CLIENT_KEY: not a PEM certificate and its key",
		},
		{
			name:          "all of it",
			configuration: Configuration{Keptn: KeptnConfiguration{Transport: HTTP, APIToken: "secret"}, OAuth: oauth},
			want: "environment variables KEPTN_API_TOKEN and KEPTN_OAUTH_CLIENT_ID: set one of them\n" +
				"environment variable KEPTN_API_URL: required if KEPTN_TRANSPORT is http",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			message := ""
			if err := test.configuration.Validate(); err != nil {
				message = err.Error()
			}
			if message != test.want || strings.Contains(message, "secret") {
				t.Errorf("got %q, want %q", message, test.want)
			}
		})
	}
	client, err := Configuration{Keptn: remote}.client(nil, "ours", &secrets{}, slog.New(slog.DiscardHandler))
	if err != nil || client.Endpoints != api.GatewayEndpoints("https://keptn.example.com/api") {
		t.Errorf("got %+v, %v", client, err)
	}
}

func TestIntegrationTellsWhoItIs(t *testing.T) {
	configuration := Configuration{
		Registration: RegistrationConfiguration{
			Name:          "job-executor",
			Location:      "execution-plane",
			Deployment:    "bridge",
			Subscriptions: []string{"one", " other"},
		},
		Pod: PodConfiguration{NodeName: "node", Pod: election.Pod{Namespace: "job-executor", Name: "bridge-0"}},
	}
	got := configuration.integration()
	metadata := got.MetaData
	events := []string{got.Subscriptions[0].Event, got.Subscriptions[1].Event}
	want := []any{"job-executor", "node", "execution-plane", "job-executor", "bridge-0", "bridge", []string{"one", "other"}}
	kubernetes := metadata.KubernetesMetaData
	if difference := cmp.Diff(
		want,
		[]any{got.Name, metadata.Hostname, metadata.Location, kubernetes.Namespace, kubernetes.PodName, kubernetes.DeploymentName, events},
	); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
	if metadata.IntegrationVersion == "" {
		t.Error("it tells no version")
	}
}

func TestTracesLinkToKeptnsPage(t *testing.T) {
	for _, test := range []struct{ name, api, bridge, want string }{
		{name: "derived from the API's address", api: "https://keptn.example.com/api", want: "https://keptn.example.com/bridge"},
		{name: "address with a trailing slash", api: "https://keptn.example.com/api/", want: "https://keptn.example.com/bridge"},
		{name: "configured", api: "https://keptn.example.com/api", bridge: "https://page.example.com/bridge/", want: "https://page.example.com/bridge"},
		{name: "unknown in the same cluster", api: ""},
		{name: "unknown behind another path", api: "https://keptn.example.com/gateway"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := (KeptnConfiguration{APIURL: test.api, BridgeURL: test.bridge}).page(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
