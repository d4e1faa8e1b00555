package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// provider is an identity provider, and a Keptn that takes its newest token.
type provider struct {
	*httptest.Server
	issued  int
	expires int
	refuse  bool
	log     []string
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	created := &provider{expires: 3600}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(writer http.ResponseWriter, _ *http.Request) {
		created.log = append(created.log, "discovery")
		_ = json.NewEncoder(writer).Encode(map[string]string{"token_endpoint": created.URL + "/token"})
	})
	mux.HandleFunc("GET /incomplete", func(writer http.ResponseWriter, _ *http.Request) { _, _ = writer.Write([]byte(`{"issuer":"me"}`)) })
	mux.HandleFunc("POST /token", func(writer http.ResponseWriter, request *http.Request) {
		id, secret, _ := request.BasicAuth()
		created.log = append(created.log, strings.Join([]string{"token", id, secret, request.FormValue("grant_type"), request.FormValue("scope")}, " "))
		writer.Header().Set("Content-Type", "application/json")
		if created.refuse {
			writer.WriteHeader(http.StatusUnauthorized)
			_, _ = writer.Write([]byte(`{"error":"invalid_client","hint":"s3cret is wrong"}`))
			return
		}
		created.issued++
		_ = json.NewEncoder(writer).
			Encode(map[string]any{"access_token": fmt.Sprintf("token-%d", created.issued), "token_type": "Bearer", "expires_in": created.expires})
	})
	mux.HandleFunc("/api/", func(writer http.ResponseWriter, request *http.Request) {
		created.log = append(created.log, "Keptn "+request.Header.Get("Authorization"))
		if request.Header.Get("Authorization") != fmt.Sprintf("Bearer token-%d", created.issued) {
			writer.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = writer.Write([]byte(`{"events":[]}`))
	})
	created.Server = httptest.NewServer(mux)
	t.Cleanup(created.Close)
	return created
}

func (p *provider) client(oauth OAuth) *Client {
	plain := NewHTTPClient(http.DefaultTransport, time.Second)
	oauth.ClientID, oauth.ClientSecret, oauth.Scopes = "me", func() string { return "s3cret" }, []string{"openid", "keptn"}
	return &Client{Endpoints: GatewayEndpoints(p.URL + "/api"), HTTP: NewHTTPClient(oauth.Transport(http.DefaultTransport, plain), time.Second)}
}

func TestOAuthTokenIsFetchedAndUsed(t *testing.T) {
	const fetched = "token me s3cret client_credentials openid keptn"
	tests := []struct {
		name   string
		oauth  func(*provider) OAuth
		before func(*provider)
		calls  int
		want   []string
		err    string
	}{
		{name: "discovered, once for many calls", oauth: func(p *provider) OAuth {
			return OAuth{DiscoveryURL: p.URL + "/.well-known/openid-configuration"}
		}, calls: 3, want: []string{"discovery", fetched, "Keptn Bearer token-1", "Keptn Bearer token-1", "Keptn Bearer token-1"}},
		{
			name:  "from a configured endpoint",
			oauth: func(p *provider) OAuth { return OAuth{TokenURL: p.URL + "/token"} },
			calls: 1,
			want:  []string{fetched, "Keptn Bearer token-1"},
		},
		{
			name:   "again when it expires",
			oauth:  func(p *provider) OAuth { return OAuth{TokenURL: p.URL + "/token"} },
			before: func(p *provider) { p.expires = 1 },
			calls:  2,
			want: []string{
				fetched, "Keptn Bearer token-1", fetched, "Keptn Bearer token-2",
			},
		},
		{
			name:   "a refusal hides the provider's answer",
			oauth:  func(p *provider) OAuth { return OAuth{TokenURL: p.URL + "/token"} },
			before: func(p *provider) { p.refuse = true },
			calls:  1,
			err:    "status 401 Unauthorized invalid_client",
		},
		{
			name:  "no metadata",
			oauth: func(p *provider) OAuth { return OAuth{DiscoveryURL: p.URL + "/nowhere"} },
			calls: 1,
			err:   "answered 404 Not Found",
		},
		{
			name:  "metadata without an endpoint",
			oauth: func(p *provider) OAuth { return OAuth{DiscoveryURL: p.URL + "/incomplete"} },
			calls: 1,
			err:   "/incomplete has no token_endpoint",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			provider := newProvider(t)
			if test.before != nil {
				test.before(provider)
			}
			client := provider.client(test.oauth(provider))
			for range test.calls {
				_, err := client.OpenTriggered(t.Context(), "x")
				if (err == nil) != (test.err == "") || err != nil && (!strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "s3cret")) {
					t.Fatalf("got %v", err)
				}
			}
			if difference := cmp.Diff(test.want, provider.log); test.err == "" && difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
}

func TestOAuthTokenThatKeptnRefusesIsReplaced(t *testing.T) {
	provider := newProvider(t)
	client := provider.client(OAuth{TokenURL: provider.URL + "/token"})
	if _, err := client.OpenTriggered(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	provider.issued++ // the provider has changed its mind
	if _, err := client.OpenTriggered(t.Context(), "x"); err == nil {
		t.Fatal("a token that is refused was taken")
	}
	if _, err := client.OpenTriggered(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
}
