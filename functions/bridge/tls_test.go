package bridge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// authority is a private certificate authority.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	pem         string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	created := &authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var content []byte
	content, created.certificate = certify(t, template, template, created.key, created.key)
	created.pem = encode("CERTIFICATE", content)
	return created
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certify(t *testing.T, template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) ([]byte, *x509.Certificate) {
	t.Helper()
	content, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(content)
	if err != nil {
		t.Fatal(err)
	}
	return content, certificate
}

func encode(kind string, content []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}))
}

// sign returns a certificate for the loopback address and its key, in PEM.
func (a *authority) sign(t *testing.T, name string) (certificate, key string) {
	t.Helper()
	private := newKey(t)
	content, _ := certify(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.certificate, private, a.key)
	encoded, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", content), encode("EC PRIVATE KEY", encoded)
}

func (a *authority) serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	certificate, key := a.sign(t, "server")
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AddCert(a.certificate)
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: authorities, MinVersion: tls.VersionTLS12}
}

func TestTLSIsVerified(t *testing.T) {
	trusted, other := newAuthority(t), newAuthority(t)
	serve := func(settings *tls.Config) *httptest.Server {
		server := httptest.NewUnstartedServer(
			http.HandlerFunc(func(writer http.ResponseWriter, _ *http.Request) { _, _ = writer.Write([]byte(`{"events":[]}`)) }),
		)
		server.TLS, server.Config.ErrorLog = settings, slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
		server.StartTLS()
		t.Cleanup(server.Close)
		return server
	}
	own, foreign := serve(trusted.serverTLS(t)), serve(other.serverTLS(t))
	tests := []struct {
		name, address, authorities, want string
	}{
		{name: "a configured authority is trusted", address: own.URL, authorities: trusted.pem},
		{name: "another authority is not trusted", address: foreign.URL, authorities: trusted.pem, want: "certificate signed by unknown authority"},
		{name: "without a configured authority, the system's are trusted", address: own.URL, want: "certificate signed by unknown authority"},
		{
			name:        "the host name must match",
			address:     strings.Replace(own.URL, "127.0.0.1", "localhost", 1),
			authorities: trusted.pem,
			want:        "certificate is not valid for any names",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for name, configuration := range map[string]Configuration{
				"Keptn": {Keptn: KeptnConfiguration{Transport: HTTP, APIURL: test.address, CACertificates: test.authorities}},
				"identity provider": {
					Keptn: KeptnConfiguration{Transport: HTTP, APIURL: test.address, CACertificates: test.authorities},
					OAuth: OAuthConfiguration{ClientID: "id", ClientSecret: "secret", DiscoveryURL: test.address},
				},
			} {
				client, err := configuration.client(nil, "ours", &secrets{last: configuration}, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				_, err = client.OpenTriggered(t.Context(), "t")
				verified := err == nil || strings.Contains(err.Error(), "has no token_endpoint")
				if verified != (test.want == "") || !verified && !strings.Contains(err.Error(), test.want) {
					t.Errorf("%s: got %v", name, err)
				}
			}
		})
	}
	// TLS verification remains on for the rest of the process.
	if settings := http.DefaultTransport.(*http.Transport).TLSClientConfig; settings != nil && settings.InsecureSkipVerify {
		t.Error("TLS is not verified in this process")
	}
}
