package signature

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// The attributes of a signed event (CloudEvents, extensions Verifiability and Expiry Time), and its version.
const (
	MaterialExtension = "dssematerial"
	SignedExtension   = "signedextattrs"
	ExpiryExtension   = "expirytime"
	VersionExtension  = "protocolversion"
)

// Version is the version of the events between functions. A release increases it if earlier ones would misunderstand its
// events. They read any event of a lower version, or without one.
const Version = 1

const (
	payloadType = "https://cloudevents.io/verifiability/dsse/v0.1"
	// Lifetime is how long a signed event is valid. It is longer than any delivery. A later resend is signed
	// again.
	Lifetime = time.Hour
	// clockSkew is how far the clocks of nodes may be apart.
	clockSkew = time.Minute
	// maxMaterialBytes bounds an envelope before it is decoded. Ours have 400 bytes.
	maxMaterialBytes = 4 << 10
)

// ErrUnproven means that an event has no valid signature of a function that may send it.
var ErrUnproven = errors.New("nothing proves that the event comes from a function that may send it")

// ErrNewer means that an event has a higher version. It is retriable, because functions are upgraded one after the other.
var ErrNewer = errors.New("the event comes from a later release; upgrade this function")

// ErrNoKeys means that keys are missing. The bridge creates them at installation, and Kubernetes takes up to a
// minute to mount them into running pods.
var ErrNoKeys = errors.New("sign keys are missing; the bridge creates them when it starts")

// envelope is a DSSE envelope (DSSE 1.0.2). encoding/json encodes its bytes in Base64.
type envelope struct {
	PayloadType string         `json:"payloadType"`
	Payload     []byte         `json:"payload"`
	Signatures  []keySignature `json:"signatures"`
}

type keySignature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// Party signs the events that a function sends and verifies those that it receives.
type Party struct {
	Keys Source
	// Version replaces Version for functions of other releases; 0 keeps it.
	Version int
	Now     func() time.Time
	Events  *telemetry.Counters
	Log     *slog.Logger
}

// version is the version of signed events, and the highest one that is accepted.
func (p *Party) version() int { return cmp.Or(p.Version, Version) }

// Sign signs an event with all attributes except the trace context, which changes on the way. It returns
// ErrNoKeys, or an error if the key cannot be read.
func (p *Party) Sign(outgoing event.Event) (event.Event, error) {
	outgoing = outgoing.Clone()
	outgoing.SetExtension(VersionExtension, strconv.Itoa(p.version()))
	return p.sign(outgoing)
}

func (p *Party) sign(signed event.Event) (event.Event, error) {
	keys, err := p.Keys.Keys()
	if err != nil {
		return event.Event{}, fmt.Errorf("sign event %s: %w", signed.ID(), err)
	}
	if keys.Private == nil {
		return event.Event{}, fmt.Errorf("sign event %s: %w", signed.ID(), ErrNoKeys)
	}
	signed.SetExtension(MaterialExtension, nil)
	signed.SetExtension(SignedExtension, nil)
	signed.SetExtension(ExpiryExtension, p.Now().Add(Lifetime).UTC().Format(time.RFC3339))
	var names []string
	for name := range signed.Extensions() {
		if !changesOnTheWay(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	digest, err := digestOf(signed, names)
	if err != nil {
		return event.Event{}, fmt.Errorf("sign event %s: %w", signed.ID(), err)
	}
	content, err := json.Marshal(envelope{
		PayloadType: payloadType, Payload: digest,
		Signatures: []keySignature{{KeyID: string(keys.Own), Sig: ed25519.Sign(keys.Private, preAuthenticationEncoding(digest))}},
	})
	if err != nil {
		return event.Event{}, fmt.Errorf("encode the signature of event %s: %w", signed.ID(), err)
	}
	signed.SetExtension(SignedExtension, strings.Join(names, ","))
	signed.SetExtension(MaterialExtension, base64.StdEncoding.EncodeToString(content))
	return signed, nil
}

// Verify returns the signed part of an event, with the signature, so that it can be verified again. It returns
// ErrUnproven if the signature is missing or invalid, ErrNewer if the event has a higher version, and ErrNoKeys if
// no keys are known.
func (p *Party) Verify(received event.Event) (event.Event, error) {
	keys, err := p.Keys.Keys()
	if err != nil {
		return event.Event{}, fmt.Errorf("verify event %s: %w", received.ID(), err)
	}
	verified, err := verify(received, keys, Senders(received.Type()), p.Now())
	if err != nil {
		return event.Event{}, fmt.Errorf("verify event %s: %w", received.ID(), err)
	}
	if version, err := strconv.Atoi(text(verified, VersionExtension)); err == nil && version > p.version() {
		return event.Event{}, fmt.Errorf("verify event %s: %w: it has version %d, and this function reads %d", received.ID(), ErrNewer, version, p.version())
	}
	return verified, nil
}

func verify(received event.Event, keys Keys, from []Name, now time.Time) (event.Event, error) {
	unproven := func(why string) (event.Event, error) { return event.Event{}, fmt.Errorf("%w: %s", ErrUnproven, why) }
	material := text(received, MaterialExtension)
	if material == "" || len(material) > maxMaterialBytes {
		return unproven("it is not signed")
	}
	decoded, err := base64.StdEncoding.DecodeString(material)
	if err != nil {
		return unproven("its signature can't be read")
	}
	var parsed envelope
	if err := json.Unmarshal(decoded, &parsed); err != nil || parsed.PayloadType != payloadType || len(parsed.Signatures) != 1 {
		return unproven("its signature is none of CloudEvents'")
	}
	signer := Name(parsed.Signatures[0].KeyID)
	if !slices.Contains(from, signer) {
		return unproven(fmt.Sprintf("it is signed by %q", signer))
	}
	public := keys.Public[signer]
	if public == nil {
		return event.Event{}, ErrNoKeys
	}
	if !ed25519.Verify(public, preAuthenticationEncoding(parsed.Payload), parsed.Signatures[0].Sig) {
		return unproven("its signature is wrong")
	}
	names, err := signedNames(received)
	if err != nil {
		return unproven(err.Error())
	}
	digest, err := digestOf(received, names)
	if err != nil || string(digest) != string(parsed.Payload) {
		return unproven("it was changed")
	}
	verified := received.Clone()
	for name := range received.Extensions() {
		if !slices.Contains(names, name) && name != MaterialExtension && name != SignedExtension {
			verified.SetExtension(name, nil)
		}
	}
	expiry, err := time.Parse(time.RFC3339, text(verified, ExpiryExtension))
	if err != nil || now.After(expiry.Add(clockSkew)) {
		return unproven("it has expired")
	}
	return verified, nil
}

// signedNames returns the names of the signed attributes, according to the event.
func signedNames(received event.Event) ([]string, error) {
	listed := text(received, SignedExtension)
	if listed == "" {
		return nil, nil
	}
	names := strings.Split(listed, ",")
	for index, name := range names {
		if slices.Contains(names[:index], name) || isCore(name) || name == MaterialExtension || name == SignedExtension {
			return nil, fmt.Errorf("it may not say that %q is signed", name)
		}
	}
	return names, nil
}

func isCore(name string) bool {
	switch name {
	case "id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time":
		return true
	}
	return false
}

// changesOnTheWay reports whether intermediaries change an attribute (CloudEvents Distributed Tracing
// extension).
func changesOnTheWay(name string) bool { return name == "traceparent" || name == "tracestate" }

// digestOf returns the verification material of an event with these extension attributes.
func digestOf(of event.Event, names []string) ([]byte, error) {
	var digests []byte
	add := func(part []byte) {
		sum := sha256.Sum256(part)
		digests = append(digests, sum[:]...)
	}
	at := ""
	if !of.Time().IsZero() {
		at = of.Time().UTC().Format(time.RFC3339)
	}
	for _, part := range []string{of.ID(), of.Source(), of.SpecVersion(), of.Type(), of.DataContentType(), of.DataSchema(), of.Subject(), at} {
		add([]byte(part))
	}
	add(of.Data())
	extensions := of.Extensions() // a copy, of all of them
	for _, name := range names {
		value, err := types.Format(extensions[name])
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", name, err)
		}
		add([]byte(name))
		add([]byte(value))
	}
	sum := sha256.Sum256(digests)
	return sum[:], nil
}

// preAuthenticationEncoding returns the signed form of a payload (DSSE 1.0.2, protocol, PAE).
func preAuthenticationEncoding(payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

func text(of event.Event, name string) string {
	value, _ := of.Extensions()[name].(string)
	return value
}

// Senders returns the functions that may send events of a type; none for an unknown type.
func Senders(eventType string) []Name {
	switch eventType {
	case protocol.CompletedType, protocol.ActiveType:
		return []Name{Jobsource}
	case protocol.CancelledType, protocol.AwaitedType, protocol.ReportedType, keptn.ObservedType:
		return []Name{Bridge}
	case protocol.LogType:
		return []Name{Executor, Watcher}
	}
	switch _, phase, _ := keptn.ParseType(eventType); phase {
	case keptn.Started, keptn.Finished:
		return []Name{Executor, Watcher}
	case keptn.Triggered:
		return []Name{Bridge}
	}
	return nil
}

// Handler returns a handler that only handles events with a valid signature of a function that may send them,
// and that signs replies. It drops, logs and counts all other events: an answer would help a forger, and a
// retry would not help. The handler also sees the unsigned attributes named in kept, which a Broker adds.
func (p *Party) Handler(handle function.Handler, kept ...string) function.Handler {
	return func(ctx context.Context, received event.Event) (*event.Event, error) {
		verified, err := p.Verify(received)
		if errors.Is(err, ErrUnproven) {
			p.Events.Unproven(ctx)
			p.Log.WarnContext(ctx, "dropping unsigned event", "type", received.Type(), "source", received.Source(), "error", err)
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, name := range kept {
			if value, ok := received.Extensions()[name]; ok {
				verified.SetExtension(name, value)
			}
		}
		reply, err := handle(ctx, verified)
		if err != nil || reply == nil {
			return nil, err
		}
		signed, err := p.Sign(*reply)
		if err != nil {
			return nil, err
		}
		return &signed, nil
	}
}

// Sender returns a sender that signs events.
func (p *Party) Sender(sender protocol.Sender) protocol.Sender { return signingSender{p, sender} }

type signingSender struct {
	party  *Party
	sender protocol.Sender
}

// Send signs and sends an event.
func (s signingSender) Send(ctx context.Context, outgoing event.Event) error {
	signed, err := s.party.Sign(outgoing)
	if err != nil {
		return err
	}
	return s.sender.Send(ctx, signed)
}
