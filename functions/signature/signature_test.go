package signature

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/job-executor/job-executor/functions/cluster/clientset"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/test/fixture"
)

const namespace = "job-executor"

// installation is a namespace before the bridge has started the first time.
func installation() *fake.Clientset {
	client := fake.NewClientset(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: PublicKeys}})
	for _, name := range Names() {
		_ = client.Tracker().Add(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: SecretOf(name)}})
	}
	return client
}

// keysOf makes keys, and returns those of each function.
func keysOf(t *testing.T) map[Name]Keys {
	t.Helper()
	client := installation()
	bridge, err := Make(t.Context(), clientset.Of(client), namespace)
	if err != nil {
		t.Fatal(err)
	}
	all := map[Name]Keys{Bridge: bridge}
	for _, name := range Names()[1:] {
		private, err := makeOne(t.Context(), clientset.Of(client).Secrets(namespace), name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = Keys{Own: name, Private: private, Public: bridge.Public}
	}
	return all
}

func at(now time.Time, keys Source) *Party {
	return &Party{Keys: keys, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)}
}

// finished is an event with an attribute of each kind.
func finished() event.Event {
	created := event.New()
	created.SetID("1")
	created.SetSource("job-executor")
	created.SetType("sh.keptn.event.test.finished")
	created.SetSubject("job")
	created.SetTime(time.Date(2026, 11, 24, 13, 0, 0, 5000, time.FixedZone("elsewhere", 3600)))
	created.SetExtension("triggeredid", "2")
	created.SetExtension("runended", true)
	created.SetExtension("attempt", 3)
	created.SetExtension("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	_ = created.SetData("application/json", []byte(`{ "project":"p" }`))
	return created
}

// sent returns an event on arrival: a Broker has added attributes, and replaced the trace context.
func sent(t *testing.T, outgoing event.Event) event.Event {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
	outgoing = outgoing.Clone()
	outgoing.SetExtension("knativearrivaltime", "2026-11-24T12:00:01Z")
	outgoing.SetExtension("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-01")
	if err := cehttp.WriteRequest(t.Context(), binding.ToMessage(&outgoing), request); err != nil {
		t.Fatal(err)
	}
	received, err := cehttp.NewEventFromHTTPRequest(request)
	if err != nil {
		t.Fatal(err)
	}
	return *received
}

func TestWhatIsSignedIsVerifiedAfterItsWay(t *testing.T) {
	keys := keysOf(t)
	signed, err := at(fixture.Noon, keys[Watcher]).Sign(finished())
	if err != nil {
		t.Fatal(err)
	}
	verified, err := at(fixture.Noon, keys[Bridge]).Verify(sent(t, signed))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"triggeredid": "2", "runended": "true", "attempt": "3", ExpiryExtension: "2026-11-24T13:00:00Z",
		VersionExtension: "1", SignedExtension: "attempt,expirytime,protocolversion,runended,triggeredid", MaterialExtension: signed.Extensions()[MaterialExtension],
	}
	if difference := cmp.Diff(want, verified.Extensions()); difference != "" {
		t.Errorf("attributes (-want +got):\n%s", difference)
	}
	if difference := cmp.Diff(string(finished().Data()), string(verified.Data())); difference != "" {
		t.Errorf("data (-want +got):\n%s", difference)
	}
	if _, err := at(fixture.Noon, keys[Bridge]).Verify(verified); err != nil {
		t.Errorf("what was verified can't be verified again: %v", err)
	}
}

func TestWhatProvesNothingIsRefused(t *testing.T) {
	keys, others := keysOf(t), keysOf(t)
	for name, test := range map[string]struct {
		signed Source
		after  time.Duration
		change func(*event.Event)
		want   string
	}{
		"it is not signed": {change: func(changed *event.Event) { changed.SetExtension(MaterialExtension, nil) }, want: "it is not signed"},
		"its signature is very long": {
			change: func(changed *event.Event) { changed.SetExtension(MaterialExtension, strings.Repeat("a", 1<<20)) }, want: "it is not signed",
		},
		"its signature is no Base64": {change: func(changed *event.Event) { changed.SetExtension(MaterialExtension, "-") }, want: "can't be read"},
		"its signature is no envelope": {
			change: func(changed *event.Event) { changed.SetExtension(MaterialExtension, "e30=") }, want: "none of CloudEvents'",
		},
		"its signature is of something else": {change: withEnvelope(`{"payloadType":"x","signatures":[{}]}`), want: "none of CloudEvents'"},
		"it has two signatures":              {change: withEnvelope(`{"payloadType":"` + payloadType + `","signatures":[{},{}]}`), want: "none of CloudEvents'"},
		"its envelope has no signature":      {change: withEnvelope(`{"payloadType":"` + payloadType + `","signatures":[]}`), want: "none of CloudEvents'"},
		"signed by another function":         {signed: keys[Jobsource], want: `it is signed by "jobsource"`},
		"signed by another installation":     {signed: others[Watcher], want: "its signature is wrong"},
		"its id was changed":                 {change: func(changed *event.Event) { changed.SetID("2") }, want: "it was changed"},
		"its source was changed":             {change: func(changed *event.Event) { changed.SetSource("x") }, want: "it was changed"},
		"its type was changed":               {change: func(changed *event.Event) { changed.SetType("sh.keptn.event.test.started") }, want: "it was changed"},
		"its type is nobody's":               {change: func(changed *event.Event) { changed.SetType("x") }, want: `it is signed by "watcher"`},
		"its subject was changed":            {change: func(changed *event.Event) { changed.SetSubject("x") }, want: "it was changed"},
		"its schema was changed":             {change: func(changed *event.Event) { changed.SetDataSchema("x:y") }, want: "it was changed"},
		"its time was changed":               {change: func(changed *event.Event) { changed.SetTime(time.Unix(9, 0)) }, want: "it was changed"},
		"its data was changed": {
			change: func(changed *event.Event) { _ = changed.SetData("application/json", []byte(`{}`)) }, want: "it was changed",
		},
		"its kind of data was changed": {
			change: func(changed *event.Event) { _ = changed.SetData("text/plain", changed.Data()) }, want: "it was changed",
		},
		"an attribute was changed": {change: func(changed *event.Event) { changed.SetExtension("triggeredid", "3") }, want: "it was changed"},
		"less is said to be signed": {
			change: func(changed *event.Event) { changed.SetExtension(SignedExtension, "expirytime") }, want: "it was changed",
		},
		"nothing is said to be signed": {change: func(changed *event.Event) { changed.SetExtension(SignedExtension, nil) }, want: "it was changed"},
		"an attribute is said to be signed twice": {
			change: func(changed *event.Event) { changed.SetExtension(SignedExtension, "expirytime,expirytime") }, want: `may not say that "expirytime"`,
		},
		"a core attribute is said to be signed": {
			change: func(changed *event.Event) { changed.SetExtension(SignedExtension, "id") }, want: `may not say that "id"`,
		},
		"its signature is said to be signed": {
			change: func(changed *event.Event) { changed.SetExtension(SignedExtension, MaterialExtension) }, want: `may not say that "` + MaterialExtension,
		},
		"what is signed is said to be signed": {
			change: func(changed *event.Event) { changed.SetExtension(SignedExtension, SignedExtension) }, want: `may not say that "` + SignedExtension,
		},
		"its end is put off": {change: func(changed *event.Event) { changed.SetExtension(ExpiryExtension, "2036-11-24T13:00:00Z") }, want: "it was changed"},
		"its time is over":   {after: Lifetime + clockSkew + time.Second, want: "it has expired"},
	} {
		t.Run(name, func(t *testing.T) {
			signer := Source(keys[Watcher])
			if test.signed != nil {
				signer = test.signed
			}
			signed, err := at(fixture.Noon, signer).Sign(finished())
			if err != nil {
				t.Fatal(err)
			}
			if test.change != nil {
				test.change(&signed)
			}
			_, err = at(fixture.Noon.Add(test.after), keys[Bridge]).Verify(signed)
			if !errors.Is(err, ErrUnproven) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func withEnvelope(content string) func(*event.Event) {
	return func(changed *event.Event) {
		changed.SetExtension(MaterialExtension, base64.StdEncoding.EncodeToString([]byte(content)))
	}
}

func TestSignatureHoldsUntilTheClocksMayDiffer(t *testing.T) {
	keys := keysOf(t)
	signed, err := at(fixture.Noon, keys[Watcher]).Sign(finished())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := at(fixture.Noon.Add(Lifetime+clockSkew), keys[Bridge]).Verify(signed); err != nil {
		t.Errorf("got %v at the last moment", err)
	}
}

func TestEventsOfOtherReleases(t *testing.T) {
	keys := keysOf(t)
	for name, test := range map[string]struct {
		version any
		want    error
	}{
		"of a release without versions": {nil, nil},
		"of this version":               {"1", nil},
		"of an earlier version":         {"0", nil},
		"of a later version":            {"2", ErrNewer},
	} {
		t.Run(name, func(t *testing.T) {
			outgoing := finished()
			outgoing.SetExtension(VersionExtension, test.version)
			signed, err := at(fixture.Noon, keys[Watcher]).sign(outgoing)
			if err != nil {
				t.Fatal(err)
			}
			handled := false
			handle := at(fixture.Noon, keys[Bridge]).Handler(func(context.Context, event.Event) (*event.Event, error) {
				handled = true
				return nil, nil
			})
			_, err = handle(t.Context(), sent(t, signed))
			if !errors.Is(err, test.want) || function.IsPermanent(err) || handled != (test.want == nil) {
				t.Errorf("got %v, handled: %t", err, handled)
			}
		})
	}
}

func TestEventThatWasSignedBeforeIsSignedAnew(t *testing.T) {
	keys := keysOf(t)
	before, err := at(fixture.Noon, keys[Jobsource]).Sign(finished())
	if err != nil {
		t.Fatal(err)
	}
	signed, err := at(fixture.Noon, keys[Watcher]).Sign(before)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := at(fixture.Noon, keys[Bridge]).Verify(signed); err != nil {
		t.Error(err)
	}
}

// An unsigned event has no attributes of a signature.
func TestEventWithoutAnAttributeIsNotSignedByLeavingItOut(t *testing.T) {
	keys := keysOf(t)
	signed, err := at(fixture.Noon, keys[Watcher]).Sign(finished())
	if err != nil {
		t.Fatal(err)
	}
	signed.SetExtension("keptnlog", "added on its way")
	verified, err := at(fixture.Noon, keys[Bridge]).Verify(signed)
	if err != nil {
		t.Fatal(err)
	}
	if added := verified.Extensions()["keptnlog"]; added != nil {
		t.Errorf("an attribute that is not signed is there: %v", added)
	}
}

// publicKey implements the interface of the DSSE authors' library.
type publicKey ed25519.PublicKey

func (p publicKey) Verify(_ context.Context, data, signature []byte) error {
	if !ed25519.Verify(ed25519.PublicKey(p), data, signature) {
		return errors.New("wrong")
	}
	return nil
}
func (publicKey) KeyID() (string, error)     { return "bridge", nil }
func (p publicKey) Public() crypto.PublicKey { return ed25519.PublicKey(p) }

// The DSSE authors' library accepts our signatures. The functions do not use it, because it links SSH.
func TestEnvelopeIsOneOfDSSE(t *testing.T) {
	keys := keysOf(t)
	signed, err := at(fixture.Noon, keys[Bridge]).Sign(finished())
	if err != nil {
		t.Fatal(err)
	}
	content, err := base64.StdEncoding.DecodeString(text(signed, MaterialExtension))
	if err != nil {
		t.Fatal(err)
	}
	var decoded dsse.Envelope
	if err := json.Unmarshal(content, &decoded); err != nil {
		t.Fatal(err)
	}
	verifier, err := dsse.NewEnvelopeVerifier(publicKey(keys[Bridge].Public[Bridge]))
	if err != nil {
		t.Fatal(err)
	}
	accepted, payload, err := verifier.VerifyAndDecode(t.Context(), &decoded)
	if err != nil || len(accepted) != 1 || len(payload) != 32 || decoded.PayloadType != payloadType {
		t.Errorf("got %v, %d bytes of type %s, %v", accepted, len(payload), decoded.PayloadType, err)
	}
}

// Each type has one or two senders.
func TestWhoMaySendWhat(t *testing.T) {
	want := map[string][]Name{
		"sh.keptn.event.test.triggered": {
			Bridge,
		}, keptn.ObservedType: {Bridge}, protocol.CancelledType: {Bridge}, protocol.AwaitedType: {Bridge}, protocol.ReportedType: {Bridge},
		"sh.keptn.event.test.started": {
			Executor,
			Watcher,
		}, "sh.keptn.event.test.finished": {Executor, Watcher}, protocol.LogType: {Executor, Watcher},
		protocol.CompletedType: {Jobsource}, protocol.ActiveType: {Jobsource}, "sh.keptn.event.test.status.changed": nil, "sh.keptn.other": nil, "": nil,
	}
	got := map[string][]Name{}
	for eventType := range want {
		got[eventType] = Senders(eventType)
	}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
}

func TestHandlerDropsWhatProvesNothing(t *testing.T) {
	keys := keysOf(t)
	signed, err := at(fixture.Noon, keys[Watcher]).Sign(finished())
	if err != nil {
		t.Fatal(err)
	}
	failing := errors.New("not now")
	replying := func() (*event.Event, error) {
		return new(protocol.Reported("bridge", "1", fixture.Task.Context, fixture.Noon)), nil
	}
	for name, test := range map[string]struct {
		received event.Event
		keys     Source
		reply    func() (*event.Event, error)
		handled  bool
		replied  bool
		err      error
	}{
		"it is not signed":         {received: finished(), keys: keys[Bridge]},
		"it is signed":             {received: signed, keys: keys[Bridge], handled: true},
		"it is replied to":         {received: signed, keys: keys[Bridge], reply: replying, handled: true, replied: true},
		"it can't be handled":      {received: signed, keys: keys[Bridge], reply: func() (*event.Event, error) { return nil, failing }, handled: true, err: failing},
		"no keys are there yet":    {received: signed, keys: Keys{}, err: ErrNoKeys},
		"the own key is not there": {received: signed, keys: Keys{Public: keys[Bridge].Public}, reply: replying, handled: true, err: ErrNoKeys},
	} {
		t.Run(name, func(t *testing.T) {
			var seen []any
			reader := sdkmetric.NewManualReader()
			events, err := telemetry.NewCounters(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
			if err != nil {
				t.Fatal(err)
			}
			party := at(fixture.Noon, test.keys)
			party.Events = events
			handle := party.Handler(func(_ context.Context, received event.Event) (*event.Event, error) {
				seen = append(seen, received.Extensions()["knativeerrorcode"], received.Extensions()["added"])
				if test.reply == nil {
					return nil, nil
				}
				return test.reply()
			}, "knativeerrorcode")
			test.received.SetExtension("knativeerrorcode", "500")
			test.received.SetExtension("added", "x")
			reply, err := handle(t.Context(), test.received)
			var want []any
			if test.handled {
				want = []any{"500", nil}
			}
			if difference := cmp.Diff(want, seen); difference != "" || !errors.Is(err, test.err) || function.IsPermanent(err) ||
				(reply != nil) != test.replied {
				t.Errorf("got %v, %v; seen (-want +got):\n%s", reply, err, difference)
			}
			var counted metricdata.ResourceMetrics
			if err := reader.Collect(t.Context(), &counted); err != nil {
				t.Fatal(err)
			}
			if dropped := len(counted.ScopeMetrics) > 0; dropped != (!test.handled && test.err == nil) {
				t.Errorf("it is counted as dropped: %v", dropped)
			}
			if reply != nil {
				if _, err := at(fixture.Noon, keys[Watcher]).Verify(*reply); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestKeysAreMadeOnce(t *testing.T) {
	client := installation()
	first, err := Make(t.Context(), clientset.Of(client), namespace)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Make(t.Context(), clientset.Of(client), namespace)
	if difference := cmp.Diff(first, second); difference != "" || err != nil {
		t.Errorf("%v (-first +second):\n%s", err, difference)
	}
	// An emptied key is created again, and the others remain.
	emptied := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: SecretOf(Watcher)}}
	if _, err := client.CoreV1().Secrets(namespace).Update(t.Context(), emptied, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	third, err := Make(t.Context(), clientset.Of(client), namespace)
	if err != nil || third.Public[Watcher].Equal(first.Public[Watcher]) || !third.Public[Executor].Equal(first.Public[Executor]) {
		t.Errorf("got %v, %v after %v", third.Public, err, first.Public)
	}
	broken := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: SecretOf(Watcher)}, Data: map[string][]byte{PrivateField: []byte("a password")},
	}
	if _, err := client.CoreV1().Secrets(namespace).Update(t.Context(), broken, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(t.Context(), clientset.Of(client), namespace); !function.IsPermanent(err) || strings.Contains(err.Error(), "a password") {
		t.Errorf("got %v", err)
	}
}

// Key files appear and change while a function runs.
func TestFilesAreReadAgain(t *testing.T) {
	client, directory, now := installation(), t.TempDir(), fixture.Noon
	files := &Files{
		Settings: Settings{
			PrivateFile:     filepath.Join(directory, "key.pem"),
			PublicDirectory: directory,
		}, Own: Watcher, Now: func() time.Time { return now },
	}
	if keys, err := files.Keys(); err != nil || keys.Private != nil || len(keys.Public) > 0 {
		t.Errorf("before there are any: %v, %v", keys, err)
	}
	write := func() ed25519.PublicKey {
		created, err := Make(t.Context(), clientset.Of(client), namespace)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := client.CoreV1().Secrets(namespace).Get(t.Context(), SecretOf(Watcher), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		public, err := client.CoreV1().ConfigMaps(namespace).Get(t.Context(), PublicKeys, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		contents := map[string]string{"key.pem": string(secret.Data[PrivateField])}
		for name, content := range public.Data {
			contents[name] = content
		}
		for name, content := range contents {
			if err := os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return created.Public[Watcher]
	}
	check := func(when string, want ed25519.PublicKey) {
		t.Helper()
		keys, err := files.Keys()
		if err != nil || keys.Own != Watcher || !want.Equal(keys.Private.Public()) || !want.Equal(keys.Public[Watcher]) ||
			len(keys.Public) != len(Names()) {
			t.Errorf("%s: %v, %v", when, keys.Public, err)
		}
	}
	first := write()
	for _, name := range []string{"key.pem", string(Executor) + Suffix} {
		path := filepath.Join(directory, name)
		hidden := path + ".hidden"
		if err := os.Rename(path, hidden); err != nil {
			t.Fatal(err)
		}
		if keys, err := files.Keys(); err != nil || keys.Private != nil && len(keys.Public) == len(Names()) {
			t.Errorf("without %s: %v, %v", name, keys.Public, err)
		}
		if err := os.Rename(hidden, path); err != nil {
			t.Fatal(err)
		}
	}
	check("once they are there", first)
	emptied := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: SecretOf(Watcher)}}
	if _, err := client.CoreV1().Secrets(namespace).Update(t.Context(), emptied, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	second := write()
	check("at once after a change", first)
	now = now.Add(freshFor)
	check("a while after a change", second)
	if err := os.WriteFile(filepath.Join(directory, "key.pem"), []byte("a password"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(freshFor)
	if _, err := files.Keys(); err == nil || strings.Contains(err.Error(), "a password") {
		t.Errorf("got %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("e30=", "expirytime", "2026-11-24T13:00:00Z")
	f.Add("", "", "")
	f.Fuzz(func(t *testing.T, material, names, expiry string) {
		received := finished()
		received.SetExtension(MaterialExtension, material)
		received.SetExtension(SignedExtension, names)
		received.SetExtension(ExpiryExtension, expiry)
		if _, err := at(fixture.Noon, Keys{}).Verify(received); err == nil {
			t.Error("it was verified")
		}
	})
}
