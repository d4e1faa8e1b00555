package bridge

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
)

// settable are the values that settings of a kind are given here.
var settable = map[reflect.Type]struct {
	text  string
	value any
}{
	reflect.TypeFor[string]():        {"a value", "a value"},
	reflect.TypeFor[[]string]():      {"one,other", []string{"one", "other"}},
	reflect.TypeFor[int]():           {"7", 7},
	reflect.TypeFor[time.Duration](): {"7s", 7 * time.Second},
	reflect.TypeFor[Transport]():     {"http", HTTP},
}

// ofThePod are set by the manifest from what the pod is.
var ofThePod = []string{"BROKER_URL", "POD_NAMESPACE", "POD_NAME", "POD_IP", "NODE_NAME", "PORT"}

func TestEverySettingIsReadAndDocumented(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| (?:`([^`]*)`)? ?\\|").FindAllStringSubmatch(string(readme), -1) {
		documented[row[1]] = row[2]
	}
	want, defaults := Configuration{}, map[string]string{}
	value := reflect.ValueOf(&want).Elem()
	for index := range value.NumField() {
		field := value.Type().Field(index)
		name, sample := field.Tag.Get("envconfig"), settable[field.Type]
		if sample.value == nil {
			t.Fatalf("there is no value for %s", field.Name)
		}
		t.Setenv(name, sample.text)
		value.Field(index).Set(reflect.ValueOf(sample.value))
		if !slices.Contains(ofThePod, name) {
			defaults[name] = field.Tag.Get("default")
		}
	}
	var got Configuration
	if err := function.Configure(&got); err != nil {
		t.Fatal(err)
	}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("settings (-want +read):\n%s", difference)
	}
	if difference := cmp.Diff(defaults, documented); difference != "" {
		t.Errorf("settings and their defaults (-in the code +in README.md):\n%s", difference)
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	remote := Configuration{Transport: HTTP, APIURL: "https://keptn.example.com/api/", APIToken: "secret"}
	with := func(change func(*Configuration)) Configuration {
		changed := remote
		change(&changed)
		return changed
	}
	tests := []struct {
		name          string
		configuration Configuration
		want          string
	}{
		{"a token", remote, ""},
		{"OAuth", with(func(configuration *Configuration) {
			configuration.APIToken, configuration.OAuthClientID, configuration.OAuthClientSecret, configuration.OAuthTokenURL = "", "id", "secret", "https://idp.example.com/token"
		}), ""},
		{"no address", with(func(configuration *Configuration) { configuration.APIURL = "" }), "environment variable KEPTN_API_URL: required if KEPTN_TRANSPORT is http"},
		{"no NATS", Configuration{Transport: NATS, ControlPlaneURL: "c", ResourceServiceURL: "r"}, "environment variable KEPTN_NATS_URL: required if KEPTN_TRANSPORT is nats"},
		{"both a token and OAuth", with(func(configuration *Configuration) { configuration.OAuthClientID = "id" }), "environment variables KEPTN_API_TOKEN and KEPTN_OAUTH_CLIENT_ID: set one of them"},
		{"no OAuth secret", with(func(configuration *Configuration) { configuration.APIToken, configuration.OAuthClientID = "", "id" }), "environment variable KEPTN_OAUTH_CLIENT_SECRET: required if KEPTN_OAUTH_CLIENT_ID is set"},
		{"no OAuth provider", with(func(configuration *Configuration) {
			configuration.APIToken, configuration.OAuthClientID, configuration.OAuthClientSecret = "", "id", "secret"
		}), "environment variable KEPTN_OAUTH_DISCOVERY_URL: required if KEPTN_OAUTH_CLIENT_ID is set and KEPTN_OAUTH_TOKEN_URL is not"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client, err := test.configuration.Client()
			message := ""
			if err != nil {
				message = err.Error()
			}
			if message != test.want || strings.Contains(message, "secret") {
				t.Errorf("got %q, want %q", message, test.want)
			}
			if err == nil && client.Endpoints != keptn.GatewayEndpoints("https://keptn.example.com/api") {
				t.Errorf("got %+v", client.Endpoints)
			}
		})
	}
}

func TestIntegrationTellsWhoItIs(t *testing.T) {
	configuration := Configuration{
		IntegrationName: "job-executor", Location: "execution-plane", NodeName: "node", Namespace: "job-executor", PodName: "bridge-0", Deployment: "bridge",
		Subscriptions: []string{"one", " other"},
	}
	got := configuration.Integration()
	metadata := got.MetaData
	events := []string{got.Subscriptions[0].Event, got.Subscriptions[1].Event}
	want := []any{"job-executor", "node", "execution-plane", "job-executor", "bridge-0", "bridge", []string{"one", "other"}}
	kubernetes := metadata.KubernetesMetaData
	if difference := cmp.Diff(want, []any{got.Name, metadata.Hostname, metadata.Location, kubernetes.Namespace, kubernetes.PodName, kubernetes.DeploymentName, events}); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
	if metadata.IntegrationVersion == "" {
		t.Error("it tells no version")
	}
}
