package system

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/job-executor/job-executor/functions/signature"
)

// bridgeSender is the account of the bridge's events if Knative authenticates senders (Knative Eventing,
// auth.GetOIDCServiceAccountNameForResource).
const bridgeSender = "bridge-oidc-sources.knative.dev-sinkbinding"

// Authenticate switches Knative's authentication of senders, with config/authentication, on or off. It creates
// the Broker and its Triggers again, as the README says: Knative 1.21 sometimes keeps unauthenticated
// subscribers of the old ones in the channel.
func (i *Installation) Authenticate(ctx context.Context, on bool) error {
	value := map[bool]string{true: "enabled", false: "disabled"}[on]
	if !on {
		if err := i.command(ctx, "kubectl", "delete", "--ignore-not-found", "-f", "config/authentication"); err != nil {
			return err
		}
	}
	change, err := json.Marshal(map[string]any{"data": map[string]string{"authentication-oidc": value}})
	if err != nil {
		return fmt.Errorf("encode a feature of Knative: %w", err)
	}
	if _, err := i.Kubernetes.CoreV1().ConfigMaps("knative-eventing").Patch(ctx, "config-features", types.MergePatchType, change, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("set a feature of Knative: %w", err)
	}
	if err := i.command(ctx, "kubectl", "delete", "brokers,triggers,sinkbindings", "-n", Namespace, "--all"); err != nil {
		return err
	}
	if err := i.awaitNoChannels(ctx, Namespace); err != nil {
		return err
	}
	if err := i.applyConfig(ctx); err != nil {
		return err
	}
	if on {
		if err := i.Apply(ctx, "config/authentication"); err != nil {
			return err
		}
		if err := i.AwaitReady(ctx, Namespace, "eventpolicies"); err != nil {
			return err
		}
	}
	for _, name := range []string{"bridge", "jobsource"} { // which then have a token, or no longer
		if err := i.command(ctx, "kubectl", "rollout", "status", "-n", Namespace, "deployment/"+name, "--timeout=180s"); err != nil {
			return err
		}
	}
	return nil
}

// PostToBroker posts an event to the Broker as an account of a namespace, or anonymously, and returns the
// status of the response.
func (i *Installation) PostToBroker(ctx context.Context, namespace, account string, posted event.Event) (int, error) {
	token := ""
	found, err := i.ingressOf(ctx, Namespace, "keptn")
	if err == nil && account != "" {
		token, err = i.brokerToken(ctx, Namespace, "keptn", namespace, account)
	}
	if err != nil {
		return 0, err
	}
	host, err := i.ServiceAddress(ctx, found.namespace, found.service)
	if err != nil {
		return 0, err
	}
	content, err := posted.MarshalJSON()
	if err != nil {
		return 0, fmt.Errorf("encode an event: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+host+found.path, bytes.NewReader(content))
	if err != nil {
		return 0, fmt.Errorf("create a request: %w", err)
	}
	request.Header.Set("Content-Type", event.ApplicationCloudEventsJSON)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("post an event to the Broker: %w", err)
	}
	return response.StatusCode, response.Body.Close()
}

// brokerToken returns a token of an account for the Broker, empty if Knative does not authenticate senders.
func (i *Installation) brokerToken(ctx context.Context, brokerNamespace, broker, namespace, account string) (string, error) {
	audience, err := i.output(ctx, "kubectl", "get", "broker", "-n", brokerNamespace, broker, "-o", "jsonpath={.status.address.audience}")
	if err != nil || len(audience) == 0 {
		return "", err
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{string(audience)}}}
	answer, err := i.Kubernetes.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("request a token of account %s: %w", account, err)
	}
	return answer.Status.Token, nil
}

// ServiceAddress returns the address of a Service in the cluster's network.
func (i *Installation) ServiceAddress(ctx context.Context, namespace, name string) (string, error) {
	service, err := i.Kubernetes.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("look for the address of %s in namespace %s: %w", name, namespace, err)
	}
	return service.Spec.ClusterIP, nil
}

// ingress is the Service that receives a Broker's events, and the Broker's path there.
type ingress struct{ service, namespace, path string }

// ingressOf returns the ingress in a Broker's status. Each Broker of RabbitMQ has its own, in its namespace.
func (i *Installation) ingressOf(ctx context.Context, namespace, broker string) (ingress, error) {
	text, err := i.output(ctx, "kubectl", "get", "broker", "-n", namespace, broker, "-o", "jsonpath={.status.address.url}")
	if err != nil {
		return ingress{}, err
	}
	address, err := url.Parse(string(text))
	if err != nil {
		return ingress{}, fmt.Errorf("read the address of Broker %s: %w", broker, err)
	}
	service, rest, _ := strings.Cut(address.Host, ".")
	within, _, _ := strings.Cut(rest, ".")
	return ingress{service, within, address.Path}, nil
}

// toBroker returns the address of a namespace's Broker, and a client with the token of an account.
func (i *Installation) toBroker(ctx context.Context, namespace, broker, account string) (*http.Client, string, error) {
	token, err := i.brokerToken(ctx, namespace, broker, namespace, account)
	if err != nil {
		return nil, "", err
	}
	found, err := i.ingressOf(ctx, namespace, broker)
	if err != nil {
		return nil, "", err
	}
	if token == "" {
		return i.http, i.proxy(found.namespace, found.service, httpPort) + found.path, nil
	}
	host, err := i.ServiceAddress(ctx, found.namespace, found.service) // the API server does not forward tokens
	client := *i.http
	client.Transport = known{host: host, token: token, others: i.http.Transport}
	return &client, "http://" + host + found.path, err
}

// known adds a token to requests to one host.
type known struct {
	host, token string
	others      http.RoundTripper
}

func (k known) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL.Host != k.host {
		return k.others.RoundTrip(request)
	}
	request = request.Clone(request.Context())
	request.Header.Set("Authorization", "Bearer "+k.token)
	return http.DefaultTransport.RoundTrip(request)
}

// SigningKeys returns the private keys of the functions by Secret.
func (i *Installation) SigningKeys(ctx context.Context) (map[string][]byte, error) {
	keys := map[string][]byte{}
	for _, name := range signature.Names() {
		secret, err := i.Kubernetes.CoreV1().Secrets(Namespace).Get(ctx, signature.SecretOf(name), metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("read the key of %s: %w", name, err)
		}
		for _, key := range secret.Data {
			keys[secret.Name] = key
		}
	}
	return keys, nil
}

// RemoveSigningKeys empties the Secrets with the functions' keys by the command of config/README.md.
func (i *Installation) RemoveSigningKeys(ctx context.Context) error {
	for _, name := range signature.Names() {
		err := i.command(ctx, "kubectl", "patch", "secret", signature.SecretOf(name), "-n", Namespace, "--type=json", "-p", `[{"op": "remove", "path": "/data"}]`)
		if err != nil {
			return err
		}
	}
	return nil
}
