package bridge

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/job-executor/job-executor/functions/bridge/nats"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	natsclient "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/job-executor/job-executor/test/fixture"
)

func TestBridgeIdentifiesItselfToNATS(t *testing.T) {
	_, public, seed := natsUser(t)
	operator, err := nkeys.CreateOperator()
	if err != nil {
		t.Fatal(err)
	}
	credentials, resolver, operatorClaims := natsCredentials(t, operator)
	authority := newAuthority(t)
	certificate, key := authority.sign(t, "bridge")
	serverTLS := authority.serverTLS(t)
	clientTLS := authority.serverTLS(t)
	clientTLS.ClientAuth, clientTLS.ClientCAs = tls.RequireAndVerifyClientCert, clientTLS.RootCAs
	tests := []struct {
		name    string
		options *server.Options
		right   nats.Configuration
		wrong   nats.Configuration
		// trusts are the trusted authorities of the right and the wrong configuration.
		trusts [2]string
	}{
		{
			name:    "user and password",
			options: &server.Options{Username: "bridge", Password: "secret"},
			right:   nats.Configuration{User: "bridge", Password: "secret"},
			wrong:   nats.Configuration{User: "bridge", Password: "wrong"},
			trusts:  [2]string{},
		},
		{
			name:    "a token",
			options: &server.Options{Authorization: "secret"},
			right:   nats.Configuration{Token: "secret"},
			wrong:   nats.Configuration{},
			trusts:  [2]string{},
		},
		{
			name:    "an nkey",
			options: &server.Options{Nkeys: []*server.NkeyUser{{Nkey: public}}},
			right:   nats.Configuration{NkeySeed: seed + "\n"},
			wrong:   nats.Configuration{},
			trusts:  [2]string{},
		},
		{
			name:    "a credentials file",
			options: &server.Options{TrustedOperators: operatorClaims, AccountResolver: resolver},
			right:   nats.Configuration{Credentials: credentials},
			wrong:   nats.Configuration{},
			trusts:  [2]string{},
		},
		{
			name:    "TLS with an own authority",
			options: &server.Options{TLS: true, TLSConfig: serverTLS},
			right:   nats.Configuration{},
			wrong:   nats.Configuration{},
			trusts:  [2]string{authority.pem, ""},
		},
		{
			name:    "TLS with a client certificate",
			options: &server.Options{TLS: true, TLSVerify: true, TLSConfig: clientTLS},
			right:   nats.Configuration{ClientCertificate: certificate, ClientKey: key},
			wrong:   nats.Configuration{},
			trusts:  [2]string{authority.pem, authority.pem},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, address := fixture.StartNATS(t, test.options)
			for wanted, identity := range map[bool]nats.Configuration{true: test.right, false: test.wrong} {
				identity.URL = strings.Replace(address, "tls://", "nats://", 1)
				configuration := Configuration{NATS: identity, Keptn: KeptnConfiguration{CACertificates: test.trusts[map[bool]int{true: 0, false: 1}[wanted]]}}
				options, err := configuration.natsOptions(func() nats.Configuration { return identity })
				if err != nil {
					t.Fatal(err)
				}
				connection, err := natsclient.Connect(identity.URL, append(options, natsclient.RetryOnFailedConnect(true), natsclient.MaxReconnects(-1))...)
				if err != nil {
					t.Fatal(err)
				}
				defer connection.Close()
				deadline := time.Now().Add(5 * time.Second)
				for connection.IsConnected() != wanted && time.Now().Before(deadline) {
					if !wanted && connection.LastError() != nil {
						break
					}
					time.Sleep(time.Millisecond)
				}
				if connected := connection.IsConnected(); connected != wanted {
					t.Errorf("connected is %v, want %v: %v", connected, wanted, connection.LastError())
				}
			}
		})
	}
}

func natsUser(t *testing.T) (nkeys.KeyPair, string, string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return pair, public, string(seed)
}

// natsCredentials makes an account with a user, and the user's credentials file.
func natsCredentials(t *testing.T, operator nkeys.KeyPair) (string, server.AccountResolver, []*jwt.OperatorClaims) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	operatorKey, err := operator.PublicKey()
	must(err)
	claims := jwt.NewOperatorClaims(operatorKey)
	account, err := nkeys.CreateAccount()
	must(err)
	accountKey, err := account.PublicKey()
	must(err)
	accountToken, err := jwt.NewAccountClaims(accountKey).Encode(operator)
	must(err)
	resolver := &server.MemAccResolver{}
	must(resolver.Store(accountKey, accountToken))
	_, userKey, seed := natsUser(t)
	userToken, err := jwt.NewUserClaims(userKey).Encode(account)
	must(err)
	credentials, err := jwt.FormatUserConfig(userToken, []byte(seed))
	must(err)
	return string(credentials), resolver, []*jwt.OperatorClaims{claims}
}
