package main

import (
	"fmt"
	"os"
	"time"
)

// progress shows each step with its expected and its actual duration.
type progress struct {
	terminal bool
}

func newProgress() *progress {
	information, err := os.Stdout.Stat()
	return &progress{terminal: err == nil && information.Mode()&os.ModeCharDevice != 0}
}

// quietPeriod is the interval of messages about a long step without a terminal.
const quietPeriod = time.Minute

func (p *progress) step(name string, expect time.Duration, do func() error) error {
	started := time.Now()
	fmt.Printf("%-42s about %s", name, expect)
	done := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		interval := quietPeriod
		if p.terminal {
			interval = time.Second
		}
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				if p.terminal {
					fmt.Printf("\r%-42s about %s, %s so far ", name, expect, time.Since(started).Round(time.Second))
				} else {
					fmt.Printf(", %s so far", time.Since(started).Round(time.Second))
				}
			}
		}
	}()
	err := do()
	close(done)
	<-finished
	if p.terminal {
		fmt.Printf("\r\033[K%-42s", name)
	} else {
		fmt.Print(" ")
	}
	took := time.Since(started).Round(100 * time.Millisecond)
	if err != nil {
		fmt.Printf(" failed after %s\n", took)
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Printf(" done in %s\n", took)
	return nil
}
