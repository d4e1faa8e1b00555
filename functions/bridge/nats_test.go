package bridge

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/job-executor/job-executor/functions/keptn"
)

// startNATS starts a NATS server with Keptn's stream, unless it has one, and
// returns its address.
func startNATS(t *testing.T, options *server.Options) (*server.Server, string) {
	t.Helper()
	options.Host, options.NoLog, options.NoSigs = "127.0.0.1", true, true
	if options.Port == 0 {
		options.Port = server.RANDOM_PORT
	}
	started, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	started.Start()
	t.Cleanup(started.Shutdown)
	if !started.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS did not start")
	}
	return started, started.ClientURL()
}

func withStream(directory string) *server.Options {
	return &server.Options{JetStream: true, StoreDir: directory}
}

func makeStream(t *testing.T, address string) jetstream.JetStream {
	t.Helper()
	connection, err := nats.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connection.Close)
	made, err := jetstream.New(connection)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := made.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{"sh.keptn.>"}}); err != nil {
		t.Fatal(err)
	}
	return made
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
		right   Configuration
		wrong   Configuration
	}{
		{"user and password", &server.Options{Username: "bridge", Password: "secret"}, Configuration{NATSUser: "bridge", NATSPassword: "secret"}, Configuration{NATSUser: "bridge", NATSPassword: "wrong"}},
		{"a token", &server.Options{Authorization: "secret"}, Configuration{NATSToken: "secret"}, Configuration{}},
		{"an nkey", &server.Options{Nkeys: []*server.NkeyUser{{Nkey: public}}}, Configuration{NATSNkeySeed: seed + "\n"}, Configuration{}},
		{"a credentials file", &server.Options{TrustedOperators: operatorClaims, AccountResolver: resolver}, Configuration{NATSCredentials: credentials}, Configuration{}},
		{"TLS with an own authority", &server.Options{TLS: true, TLSConfig: serverTLS}, Configuration{CACertificates: authority.pem}, Configuration{}},
		{"TLS with a client certificate", &server.Options{TLS: true, TLSVerify: true, TLSConfig: clientTLS}, Configuration{CACertificates: authority.pem, NATSClientCertificate: certificate, NATSClientKey: key}, Configuration{CACertificates: authority.pem}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, address := startNATS(t, test.options)
			for wanted, configuration := range map[bool]Configuration{true: test.right, false: test.wrong} {
				configuration.NATSURL = strings.Replace(address, "tls://", "nats://", 1)
				transport, err := ConnectNATS(configuration, discard)
				if err != nil {
					t.Fatal(err)
				}
				defer transport.Close()
				deadline := time.Now().Add(5 * time.Second)
				for transport.MaxBytes() == 0 == wanted && time.Now().Before(deadline) {
					if !wanted && transport.connection.LastError() != nil {
						break
					}
					time.Sleep(time.Millisecond)
				}
				if connected := transport.connection.IsConnected(); connected != wanted {
					t.Errorf("connected is %v, want %v: %v", connected, wanted, transport.connection.LastError())
				}
			}
		})
	}
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

func TestWrongSettingsOfNATSAreNamed(t *testing.T) {
	tests := []struct {
		name          string
		configuration Configuration
		want          string
	}{
		{"two ways", Configuration{NATSUser: "u", NATSToken: "t"}, "environment variables KEPTN_NATS_USER and KEPTN_NATS_TOKEN: set one of them"},
		{"no seed", Configuration{NATSNkeySeed: "secret"}, "environment variable KEPTN_NATS_NKEY_SEED: it is no seed of an nkey"},
		{"no certificate", Configuration{CACertificates: "secret"}, "environment variable KEPTN_CA_CERTIFICATES: there is no certificate in PEM in it"},
		{"no key", Configuration{NATSClientCertificate: "secret"}, "environment variables KEPTN_NATS_CLIENT_CERTIFICATE and KEPTN_NATS_CLIENT_KEY: they are no certificate and its key in PEM"},
		{"no address", Configuration{NATSURL: "nats://a b"}, `environment variable KEPTN_NATS_URL: parse "nats://a b": invalid character " " in host name`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			transport, err := ConnectNATS(test.configuration, discard)
			if err == nil {
				transport.Close()
			}
			if err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// Two installations on one Keptn have consumers of their own.
func TestConsumerIsNamedByInstallation(t *testing.T) {
	for want, configuration := range map[string]Configuration{
		"job-executor-one": {IntegrationName: "job-executor", Namespace: "one"},
		"job-executor-two": {IntegrationName: "job-executor", Namespace: "two"},
		"a_b_c-two":        {IntegrationName: "a.b c", Namespace: "two"},
	} {
		if got := durableName(configuration); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestRetryDelayDoublesUpToAMinute(t *testing.T) {
	var got []time.Duration
	for delivery := range uint64(8) {
		got = append(got, retryDelay(delivery+1))
	}
	want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

// taker keeps what it is given; an id fails as often as it is told to.
type taker struct {
	mutex sync.Mutex
	fail  map[string]int
	taken []string
}

func (taker *taker) take(_ context.Context, triggered event.Event, origin Origin) error {
	taker.mutex.Lock()
	defer taker.mutex.Unlock()
	taker.taken = append(taker.taken, fmt.Sprintf("%s %d", triggered.ID(), origin))
	if taker.fail[triggered.ID()] > 0 {
		taker.fail[triggered.ID()]--
		return errDown
	}
	return nil
}

func (taker *taker) await(t *testing.T, want ...string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		taker.mutex.Lock()
		difference := cmp.Diff(want, taker.taken)
		taker.mutex.Unlock()
		if difference == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("taken (-want +got):\n%s", difference)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestEventsAreReceivedWhateverBecomesOfTheStream(t *testing.T) {
	running, address := startNATS(t, withStream(t.TempDir()))
	published := makeStream(t, address)
	configuration := Configuration{NATSURL: address, IntegrationName: "job-executor", Namespace: "one"}
	transport, err := ConnectNATS(configuration, discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.Close)
	taker := &taker{fail: map[string]int{"2": 1}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- transport.Receive(ctx, func() {}, &Lanes{}, taker.take) }()
	consuming := func() {
		t.Helper()
		deadline := time.Now().Add(30 * time.Second)
		for {
			consumer, err := published.Consumer(t.Context(), stream, transport.durable)
			if err == nil && consumer.CachedInfo().NumWaiting > 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("no consumer: %v", err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	publish := func(name, id string) {
		t.Helper()
		made := task
		made.Name, made.TriggeredID = name, id
		content, err := keptn.EncodeEvent(triggered(made))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := published.Publish(t.Context(), keptn.TypeOf(name, keptn.Triggered), content); err != nil {
			t.Fatal(err)
		}
	}

	consuming()
	publish("test", "1")
	taker.await(t, "1 0")
	publish("test", "2")
	taker.await(t, "1 0", "2 0", "2 1") // refused, and so given once more

	publish("release", "3")
	taker.await(t, "1 0", "2 0", "2 1", "3 0")

	// Keptn's NATS starts again, and has kept nothing.
	port := running.Addr().(*net.TCPAddr).Port
	running.Shutdown()
	running.WaitForShutdown()
	options := withStream(t.TempDir())
	options.Port = port
	_, address = startNATS(t, options)
	published = makeStream(t, address)
	consuming()
	publish("test", "4")
	taker.await(t, "1 0", "2 0", "2 1", "3 0", "4 0")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
