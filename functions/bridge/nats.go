package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/job-executor/job-executor/functions/keptn"
)

const (
	// stream is the name of Keptn's JetStream stream (recording 56-jetstream).
	stream = "keptn"
	// durable is the name of our consumer, which outlives every restart.
	durable = "job-executor"
	// taskSubjects are the triggered events of tasks; sequences' have a token more.
	taskSubjects = "sh.keptn.event.*.triggered"
	// ackWait is after what time an event comes again whose taker died; one that
	// is at work says so every heartbeat.
	ackWait   = 30 * time.Second
	heartbeat = 10 * time.Second
	// retryDelay is the pause before an event is offered again.
	retryDelay = 2 * time.Second
	setUpPause = 2 * time.Second
)

// NATSTransport exchanges events with Keptn over its JetStream stream.
type NATSTransport struct {
	stream jetstream.JetStream
	log    *slog.Logger
}

// ConnectNATS returns a transport that connects, and connects again, for ever.
func ConnectNATS(address string, log *slog.Logger) (*NATSTransport, error) {
	connection, err := nats.Connect(address,
		nats.Name("job-executor-bridge"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { log.Warn("disconnected from NATS", "error", err) }),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("connected to NATS again") }))
	if err != nil {
		return nil, fmt.Errorf("environment variable KEPTN_NATS_URL: %w", err)
	}
	context, err := jetstream.New(connection)
	if err != nil {
		return nil, fmt.Errorf("setting up JetStream: %w", err)
	}
	return &NATSTransport{stream: context, log: log}, nil
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

// Receive takes triggered events from the stream until the context ends. An
// event is acknowledged only when it was taken.
func (transport *NATSTransport) Receive(ctx context.Context, take Take) error {
	consumer, err := transport.consumer(ctx)
	if err != nil {
		return err
	}
	slots := make(chan struct{}, concurrentSends)
	consuming, err := consumer.Consume(func(message jetstream.Msg) {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			transport.receive(ctx, message, take)
		}()
	}, jetstream.PullMaxMessages(concurrentSends), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		transport.log.WarnContext(ctx, "receiving from NATS", "error", err)
	}))
	if err != nil {
		return fmt.Errorf("consuming stream %s: %w", stream, err)
	}
	transport.log.InfoContext(ctx, "receiving events", "stream", stream, "consumer", durable)
	<-ctx.Done()
	consuming.Stop()
	for range concurrentSends { // until all that is under way has ended
		slots <- struct{}{}
	}
	return nil
}

// consumer makes the durable consumer as soon as Keptn's stream is there. It
// begins with new events: what is open from before is listed at the start.
func (transport *NATSTransport) consumer(ctx context.Context) (jetstream.Consumer, error) {
	for {
		consumer, err := transport.stream.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
			Durable: durable, FilterSubject: taskSubjects, AckPolicy: jetstream.AckExplicitPolicy,
			AckWait: ackWait, DeliverPolicy: jetstream.DeliverNewPolicy, MaxAckPending: 4 * concurrentSends,
		})
		if err == nil {
			return consumer, nil
		}
		transport.log.WarnContext(ctx, "no consumer on Keptn's stream yet, will be tried again", "error", err)
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(setUpPause):
		}
	}
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
	origin := Published
	if metadata, err := message.Metadata(); err != nil || metadata.NumDelivered > 1 {
		// It may have been taken by a process that died before it said so, and its
		// task may be over since.
		origin = Listed
	}
	if err := take(ctx, triggered, origin); err != nil {
		transport.log.WarnContext(ctx, "event not taken, will be tried again", "id", triggered.ID(), "type", triggered.Type(), "error", err)
		transport.settle(ctx, func() error { return message.NakWithDelay(retryDelay) })
		return
	}
	transport.settle(ctx, message.Ack)
}

// settle logs only: a message that was not settled is delivered again.
func (transport *NATSTransport) settle(ctx context.Context, settle func() error) {
	if err := settle(); err != nil {
		transport.log.WarnContext(ctx, "answering NATS failed", "error", err)
	}
}
