package bridge

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/job-executor/job-executor/functions/bridge/nats"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/job-executor/job-executor/functions/telemetry"
	"github.com/job-executor/job-executor/test/console"
	"github.com/job-executor/job-executor/test/fixture"
)

func withToken(token string) Configuration {
	return Configuration{Keptn: KeptnConfiguration{Transport: HTTP, APIToken: token}}
}

// A replaced token is used without a restart. An unreadable one does not replace the last one.
func TestTokenIsReadAgain(t *testing.T) {
	var got string
	keptn := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		got = request.Header.Get("x-token")
		_, _ = writer.Write([]byte(`{"events": []}`))
	}))
	defer keptn.Close()
	now, token, failure := fixture.Noon, "first", error(nil)
	configuration := withToken("first")
	configuration.Keptn.APIURL = keptn.URL + "/api"
	client, err := configuration.client(http.DefaultTransport, "ours", newSecrets(configuration, Dependencies{
		Reload: func() (Configuration, error) { return withToken(token), failure },
		Now:    func() time.Time { return now }, Telemetry: telemetry.To("bridge", slog.DiscardHandler),
	}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		when, token string
		later       time.Duration
		failure     error
		want        string
	}{
		{when: "at first", token: "first", want: "first"},
		{when: "at once after it was replaced", token: "second", want: "first"},
		{when: "a while later", token: "second", later: secretsFreshFor, want: "second"},
		{when: "while it can't be read", token: "third", later: secretsFreshFor, failure: errors.New("not now"), want: "second"},
		{when: "after that", token: "third", later: secretsFreshFor, want: "third"},
	} {
		token, failure, now = step.token, step.failure, now.Add(step.later)
		if _, err := client.OpenTriggered(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		if got != step.want {
			t.Errorf("%s it was %q, want %q", step.when, got, step.want)
		}
	}
}

// A replaced password is used at the next attempt, whatever NATS answered before.
func TestPasswordOfNATSIsReadAgain(t *testing.T) {
	_, address := fixture.StartNATS(t, &server.Options{Username: "bridge", Password: "new", JetStream: true, StoreDir: t.TempDir()})
	configuration := Configuration{NATS: nats.Configuration{URL: address, User: "bridge", Password: "old"}}
	replaced := configuration
	replaced.NATS.Password = "new"
	refused, now := 0, fixture.Noon
	stream, err := ConnectNATS(configuration, Dependencies{
		Reload: func() (Configuration, error) {
			if refused++; refused < 3 {
				return configuration, nil
			}
			return replaced, nil
		},
		Now: func() time.Time { now = now.Add(secretsFreshFor); return now }, Telemetry: telemetry.To("bridge", slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if err := console.Eventually(t.Context(), time.Minute, func(context.Context) error {
		if stream.MaxBytes() == 0 {
			return errors.New("it is not connected")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
