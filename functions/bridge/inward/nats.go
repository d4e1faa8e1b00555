package inward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/job-executor/job-executor/functions/keptn"
)

const (
	// stream is the name of Keptn's JetStream stream (recording 56-jetstream).
	stream = "keptn"
	// taskSubjects are all events of tasks and sequences. There is one subject since the
	// NATS of Keptn's own chart (2.9.11) takes no more; the inbox filters anyway.
	taskSubjects = "sh.keptn.event.>"
	// inactiveThreshold is after what time NATS forgets a consumer that nobody uses, as
	// after an uninstallation.
	inactiveThreshold = 24 * time.Hour
	// pullHeartbeat is in what time a broken connection is seen.
	pullHeartbeat = 5 * time.Second
	// unlimited is how many events may be under way or wait: with a limit, failing events of one
	// type would hold back the events of others.
	unlimited = -1
	// ackWait is after what time an event comes again whose taker died; one that
	// is at work says so every heartbeat.
	ackWait   = 30 * time.Second
	heartbeat = 10 * time.Second
	// firstRetryDelay and lastRetryDelay bound the pause before an event is offered
	// again; it doubles.
	firstRetryDelay = time.Second
	lastRetryDelay  = time.Minute
	setUpPause      = 2 * time.Second
	lookTimeout     = 5 * time.Second
	// messageHeaders is what a message has besides its body that counts as payload.
	messageHeaders = 4 << 10
)

// NATSTransport exchanges events with Keptn over its JetStream stream.
type NATSTransport struct {
	connection *nats.Conn
	stream     jetstream.JetStream
	// durable is the name of our consumer, which outlives every restart. Each
	// installation has one of its own.
	durable string
	log     *slog.Logger
}

// ConnectNATS returns a transport that connects to an address, and connects again, for
// ever. Installation is what the name of its consumer is made of. Its error is that the
// address, or an option, is wrong.
func ConnectNATS(address, installation string, log *slog.Logger, options ...nats.Option) (*NATSTransport, error) {
	connection, err := nats.Connect(address, append(options,
		nats.Name("job-executor-bridge"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true),
		// What it is refused for may be mended, as by a new password.
		nats.IgnoreAuthErrorAbort(),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { log.Warn("disconnected from NATS", "error", err) }),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("connected to NATS again") }),
	)...)
	if err != nil {
		return nil, err
	}
	made, err := jetstream.New(connection)
	if err != nil {
		return nil, fmt.Errorf("setting up JetStream: %w", err)
	}
	return &NATSTransport{connection: connection, stream: made, durable: durableName(installation), log: log}, nil
}

// durableName is the consumer's name: what NATS does not take in one is left out.
func durableName(installation string) string {
	return strings.Map(func(character rune) rune {
		if strings.ContainsRune(" .*>/\\\t\r\n", character) {
			return '_'
		}
		return character
	}, installation)
}

// Close ends the connection.
func (transport *NATSTransport) Close() { transport.connection.Close() }

// MaxBytes is the largest event that the server takes, 0 as long as none is
// connected (recording 53-oversize-nats: it closes the connection).
func (transport *NATSTransport) MaxBytes() int {
	return max(0, int(transport.connection.MaxPayload())-messageHeaders)
}

// Send publishes an event and waits until the stream has stored it. Its id is
// the message's, so that the stream drops a repetition within two minutes.
func (transport *NATSTransport) Send(ctx context.Context, outgoing event.Event) error {
	content, err := keptn.EncodeEvent(outgoing)
	if err != nil {
		return err
	}
	if _, err := transport.stream.Publish(ctx, outgoing.Type(), content, jetstream.WithMsgID(outgoing.ID())); err != nil {
		return fmt.Errorf("publishing event %s: %w", outgoing.ID(), err)
	}
	return nil
}

// Intake is where the events of a stream go.
type Intake struct {
	// Receiving is called each time when from now on no event is missed.
	Receiving func()
	// Wants says whether events of a type are taken at all.
	Wants func(eventType string) bool
	// Lanes bound how many events of each type are taken at a time.
	Lanes *Lanes
	Take  Take
}

// Receive takes events from the stream until the context ends. An
// event is acknowledged only when it was taken. When the consumer is gone, with all of a
// NATS that kept nothing, it is made anew; then what was published before is listed.
func (transport *NATSTransport) Receive(ctx context.Context, intake Intake) error {
	for ctx.Err() == nil {
		consumer, err := transport.consumer(ctx)
		if err == nil {
			err = transport.consume(ctx, consumer, intake)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		transport.log.WarnContext(ctx, "no consumer on Keptn's stream, will be tried again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(setUpPause):
		}
	}
	return nil
}

// consumer makes the durable consumer, or brings it up to date. It begins with new
// events: what is open from before is listed at the start.
func (transport *NATSTransport) consumer(ctx context.Context) (jetstream.Consumer, error) {
	return transport.stream.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable: transport.durable, FilterSubject: taskSubjects, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: ackWait, DeliverPolicy: jetstream.DeliverNewPolicy, MaxAckPending: unlimited, InactiveThreshold: inactiveThreshold,
	})
}

// consume takes events until the context ends, and then waits for what is under way.
// It returns an error if the consumer is gone.
func (transport *NATSTransport) consume(ctx context.Context, consumer jetstream.Consumer, intake Intake) error {
	var underWay sync.WaitGroup
	doubts := make(chan error, 1)
	consuming, err := consumer.Consume(func(message jetstream.Msg) {
		eventType := message.Subject()
		if !intake.Wants(eventType) {
			transport.settle(ctx, message.Ack)
			return
		}
		leave, ok := intake.Lanes.Enter(eventType)
		if !ok {
			delivery := uint64(1)
			if metadata, err := message.Metadata(); err == nil {
				delivery = metadata.NumDelivered
			}
			transport.settle(ctx, func() error { return message.NakWithDelay(retryDelay(delivery)) })
			return
		}
		underWay.Go(func() {
			defer leave()
			transport.receive(ctx, message, intake.Take)
		})
	}, jetstream.PullMaxMessages(concurrentSends), jetstream.PullHeartbeat(pullHeartbeat), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		select {
		case doubts <- err:
		default:
		}
	}))
	if err != nil {
		return fmt.Errorf("consuming stream %s: %w", stream, err)
	}
	transport.log.InfoContext(ctx, "receiving events", "stream", stream, "consumer", transport.durable, "subject", taskSubjects)
	intake.Receiving()
	var gone error
	for waiting := true; waiting; {
		select {
		case <-ctx.Done():
			waiting = false
		case err := <-doubts:
			transport.log.WarnContext(ctx, "receiving from NATS", "error", err)
			gone = transport.lookForConsumer(ctx)
			waiting = gone == nil
		}
	}
	consuming.Stop()
	<-consuming.Closed()
	underWay.Wait()
	return gone
}

// lookForConsumer returns an error if the stream or the consumer does not exist; it does
// not as long as NATS can't be asked.
func (transport *NATSTransport) lookForConsumer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	_, err := transport.stream.Consumer(ctx, stream, transport.durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	return nil
}

func (transport *NATSTransport) receive(ctx context.Context, message jetstream.Msg, take Take) {
	triggered, err := keptn.DecodeEvent(message.Data())
	if err != nil {
		transport.log.WarnContext(ctx, "not an event, ignored", "subject", message.Subject(), "error", err)
		transport.settle(ctx, message.Term)
		return
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		ticker := time.NewTicker(heartbeat)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				transport.settle(ctx, message.InProgress)
			}
		}
	}()
	origin, delivery := Published, uint64(1)
	if metadata, err := message.Metadata(); err != nil || metadata.NumDelivered > 1 {
		// It may have been taken by a process that died before it said so, and its
		// task may be over since.
		origin = Listed
		if err == nil {
			delivery = metadata.NumDelivered
		}
	}
	if err := take(ctx, triggered, origin); err != nil {
		pause := retryDelay(delivery)
		if !errors.Is(err, ErrBackoff) {
			transport.log.WarnContext(ctx, "event not taken, will be tried again", "id", triggered.ID(), "type", triggered.Type(), "pause", pause.String(), "error", err)
		}
		transport.settle(ctx, func() error { return message.NakWithDelay(pause) })
		return
	}
	transport.settle(ctx, message.Ack)
}

// retryDelay is the pause after a delivery that failed; the first delivery is 1.
func retryDelay(delivery uint64) time.Duration {
	const doublings = 6
	return min(firstRetryDelay<<min(delivery-1, doublings), lastRetryDelay)
}

// settle logs only: a message that was not settled is delivered again.
func (transport *NATSTransport) settle(ctx context.Context, settle func() error) {
	if err := settle(); err != nil {
		transport.log.WarnContext(ctx, "answering NATS failed", "error", err)
	}
}
