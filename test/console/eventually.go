package console

import (
	"context"
	"fmt"
	"time"
)

// Eventually repeats a check until it succeeds, up to a limit of time. It returns the check's last error.
func Eventually(ctx context.Context, limit time.Duration, done func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := done(ctx)
		if err == nil {
			return nil
		}
		const interval = 100 * time.Millisecond
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s: %w", limit, err)
		case <-time.After(interval):
		}
	}
}
