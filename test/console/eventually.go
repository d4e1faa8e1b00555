package console

import (
	"context"
	"fmt"
	"time"
)

// Eventually waits until there is no error, at most for the limit.
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
