// Command keptn runs the control plane for tests in a pod, at the ports of a
// real Keptn's services.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/job-executor/job-executor/test/keptn"
)

// dispatchDelay was measured with a real Keptn (recording 58-latency).
const dispatchDelay = 60 * time.Millisecond

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	server, err := keptn.Start(ctx, keptn.Options{
		Directory: "/data", Token: os.Getenv("KEPTN_API_TOKEN"), DispatchDelay: dispatchDelay, Log: log,
		NATSAddress: "0.0.0.0:4222", GatewayAddress: "0.0.0.0:8080", ControlPlaneAddress: "0.0.0.0:8081", ResourceAddress: "0.0.0.0:8082",
		DatastoreAddress: "0.0.0.0:8083",
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "keptn:", err)
		os.Exit(1)
	}
	log.InfoContext(ctx, "Keptn for tests is up", "gateway", server.GatewayURL, "nats", server.NATSURL)
	<-ctx.Done()
	server.Close()
}
