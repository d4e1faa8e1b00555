package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// OAuth gets tokens for Keptn's API from an identity provider with the client credentials grant (RFC 6749,
// section 4.4).
type OAuth struct {
	ClientID string
	// ClientSecret returns the current secret of the client.
	ClientSecret func() string
	Scopes       []string
	// TokenURL is the provider's token endpoint. If empty, it is read from the provider's metadata at
	// DiscoveryURL (OpenID Connect Discovery 1.0, section 4; RFC 8414).
	TokenURL, DiscoveryURL string
}

// Transport returns a transport that adds a token to each request. Client fetches a token before the first
// request, and when the last one has expired or is refused by Keptn.
func (o OAuth) Transport(base http.RoundTripper, client *http.Client) http.RoundTripper {
	return &oauthTransport{OAuth: o, base: base, client: client}
}

type oauthTransport struct {
	OAuth
	base   http.RoundTripper
	client *http.Client

	mutex sync.Mutex
	token *oauth2.Token
}

// RoundTrip makes a request with a token.
func (o *oauthTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	token, err := o.current(request.Context())
	if err != nil {
		if request.Body != nil {
			_ = request.Body.Close()
		}
		return nil, err
	}
	identified := request.Clone(request.Context())
	token.SetAuthHeader(identified)
	response, err := o.base.RoundTrip(identified)
	if err == nil && response.StatusCode == http.StatusUnauthorized {
		o.forget(token)
	}
	return response, err
}

func (o *oauthTransport) current(ctx context.Context) (*oauth2.Token, error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if o.token.Valid() {
		return o.token, nil
	}
	endpoint, err := o.endpoint(ctx)
	if err != nil {
		return nil, err
	}
	configuration := clientcredentials.Config{
		ClientID: o.ClientID, ClientSecret: o.ClientSecret(), Scopes: o.Scopes, TokenURL: endpoint,
	}
	token, err := configuration.Token(context.WithValue(ctx, oauth2.HTTPClient, o.client))
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		// The error's text would include the provider's whole response.
		return nil, fmt.Errorf("get a token from %s: status %s %s", endpoint, refused.Response.Status, refused.ErrorCode)
	}
	if err != nil {
		return nil, fmt.Errorf("get a token from %s: %w", endpoint, err)
	}
	o.token = token
	return token, nil
}

func (o *oauthTransport) forget(token *oauth2.Token) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if o.token == token {
		o.token = nil
	}
}

// maxMetadataBytes bounds the provider's metadata.
const maxMetadataBytes = 1 << 20

// endpoint returns the token endpoint, as configured or discovered. Each token needs it once.
func (o *oauthTransport) endpoint(ctx context.Context) (string, error) {
	if o.TokenURL != "" {
		return o.TokenURL, nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, o.DiscoveryURL, nil)
	if err != nil {
		return "", fmt.Errorf("create a request for the identity provider's metadata: %w", err)
	}
	response, err := o.client.Do(request)
	if err != nil {
		return "", fmt.Errorf("read the identity provider's metadata: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	var metadata struct {
		TokenEndpoint string `json:"token_endpoint"`
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("read the identity provider's metadata: %s answered %s", o.DiscoveryURL, response.Status)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxMetadataBytes)).Decode(&metadata); err != nil {
		return "", fmt.Errorf("read the identity provider's metadata: %w", err)
	}
	if endpoint, err := url.Parse(metadata.TokenEndpoint); err != nil || endpoint.Host == "" {
		return "", fmt.Errorf("the metadata at %s has no token_endpoint", o.DiscoveryURL)
	}
	return metadata.TokenEndpoint, nil
}
