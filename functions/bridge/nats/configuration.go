package nats

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"

	natsclient "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Configuration is the address of Keptn's NATS, and how the bridge authenticates: in at most one of four ways,
// and with a client certificate if the server verifies clients by TLS.
type Configuration struct {
	URL      string `env:"KEPTN_NATS_URL"`
	User     string `env:"KEPTN_NATS_USER"`
	Password string `env:"KEPTN_NATS_PASSWORD"`
	Token    string `env:"KEPTN_NATS_TOKEN"`
	NkeySeed string `env:"KEPTN_NATS_NKEY_SEED"`
	// Credentials is the content of a credentials file.
	Credentials string `env:"KEPTN_NATS_CREDENTIALS"`
	// ClientCertificate and ClientKey are PEM.
	ClientCertificate string `env:"KEPTN_NATS_CLIENT_CERTIFICATE"`
	ClientKey         string `env:"KEPTN_NATS_CLIENT_KEY"`
}

// Validate returns an error that names every invalid variable.
func (c Configuration) Validate() error {
	_, authenticationErr := c.authentication(func() Configuration { return c })
	_, certificateErr := c.certificates()
	return errors.Join(authenticationErr, certificateErr)
}

// Host returns the host of the address, without credentials.
func (c Configuration) Host() string {
	address, err := url.Parse(c.URL)
	if err != nil {
		return ""
	}
	return address.Host
}

// Options returns the options of a connection. Settings trust a private CA; nil is the system's. Secrets are read
// with current at every connection, so that they can be rotated. The connection uses TLS if there is a CA or a
// client certificate, or if the server requires it.
func (c Configuration) Options(settings *tls.Config, current func() Configuration) ([]natsclient.Option, error) {
	options, err := c.authentication(current)
	if err != nil {
		return nil, err
	}
	certificates, err := c.certificates()
	if err != nil || settings == nil && len(certificates) == 0 {
		return options, err
	}
	if settings == nil {
		settings = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if len(certificates) > 0 {
		settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			certificates, err := current().certificates()
			if err != nil || len(certificates) == 0 {
				return new(tls.Certificate), err
			}
			return &certificates[0], nil
		}
	}
	if strings.HasPrefix(c.URL, "nats://") && len(certificates) == 0 {
		// The CA may only be for Keptn's API. A server that requires TLS still gets these settings.
		return append(options, func(options *natsclient.Options) error {
			options.TLSConfig = settings
			return nil
		}), nil
	}
	return append(options, natsclient.Secure(settings)), nil
}

// authentication returns the option of the configured method, if any.
func (c Configuration) authentication(current func() Configuration) ([]natsclient.Option, error) {
	pair, err := nkeys.FromSeed([]byte(strings.TrimSpace(c.NkeySeed)))
	if err != nil && c.NkeySeed != "" {
		return nil, errors.New("environment variable KEPTN_NATS_NKEY_SEED: invalid nkey seed")
	}
	public := ""
	if pair != nil {
		public, _ = pair.PublicKey() // every seed has one
	}
	var variables []string
	var options []natsclient.Option
	for _, way := range []struct {
		variable, value string
		option          natsclient.Option
	}{
		{"KEPTN_NATS_USER", c.User, natsclient.UserInfoHandler(func() (string, string) { return current().User, current().Password })},
		{"KEPTN_NATS_TOKEN", c.Token, natsclient.TokenHandler(func() string { return current().Token })},
		// Another seed belongs to another nkey, and needs a restart.
		{"KEPTN_NATS_NKEY_SEED", c.NkeySeed, natsclient.Nkey(public, func(nonce []byte) ([]byte, error) { return pair.Sign(nonce) })},
		{"KEPTN_NATS_CREDENTIALS", c.Credentials, natsclient.UserJWT(
			func() (string, error) { return nkeys.ParseDecoratedJWT([]byte(current().Credentials)) },
			func(nonce []byte) ([]byte, error) { return signWith(current().Credentials, nonce) },
		)},
	} {
		if way.value != "" {
			variables, options = append(variables, way.variable), append(options, way.option)
		}
	}
	if len(variables) > 1 {
		return nil, fmt.Errorf("environment variables %s: set one of them", strings.Join(variables, " and "))
	}
	return options, nil
}

func signWith(credentials string, nonce []byte) ([]byte, error) {
	pair, err := nkeys.ParseDecoratedUserNKey([]byte(credentials))
	if err != nil {
		return nil, errors.New("KEPTN_NATS_CREDENTIALS has no seed of a user")
	}
	return pair.Sign(nonce)
}

func (c Configuration) certificates() ([]tls.Certificate, error) {
	if c.ClientCertificate == "" {
		return nil, nil
	}
	certificate, err := tls.X509KeyPair([]byte(c.ClientCertificate), []byte(c.ClientKey))
	if err != nil {
		return nil, errors.New("environment variables KEPTN_NATS_CLIENT_CERTIFICATE and KEPTN_NATS_CLIENT_KEY: not a PEM certificate and its key")
	}
	return []tls.Certificate{certificate}, nil
}
