// Command goecho is an echo server on package core: what it receives it sends
// back. It shows all that a handler has to do, flow control included.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"kloop/core"
)

// Reading stops while a connection has more than highWater bytes that its peer does
// not take, and goes on below lowWater.
const (
	highWater = 256 << 10
	lowWater  = 64 << 10
)

// echo implements core.Handler. It has no state, so that one serves all connections.
type echo struct{}

var _ core.Handler = echo{}

// Received implements core.Handler.
func (echo) Received(c *core.Conn, p []byte) { c.Write(p) }

// ReceivedEOF implements core.Handler: what is queued is sent, then it closes.
func (echo) ReceivedEOF(*core.Conn) bool { return false }

// Backlog implements core.Handler.
func (echo) Backlog(c *core.Conn, queued, sent int) {
	switch {
	case queued > highWater:
		c.Pause()
	case queued < lowWater:
		c.Resume()
	}
}

// Closed implements core.Handler.
func (echo) Closed(*core.Conn, *core.OpError) {}

type config struct {
	address string
	loops   int
	uring   core.UringOptions
}

func main() {
	var c config
	flag.StringVar(&c.address, "listen", "127.0.0.1:7000", "address to listen on")
	flag.IntVar(&c.loops, "loops", 1, "event loops, each with a thread of its own")
	flag.BoolVar(&c.uring.SQPoll, "sqpoll", false, "have a kernel thread submit (needs a spare core)")
	flag.Parse()
	c.uring.SQPollCPU = -1

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, c, func(address string) { fmt.Println("listening on", address) })
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "goecho:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done. It calls ready with the address, once.
func run(ctx context.Context, c config, ready func(address string)) error {
	servers := make([]*core.Loop, 0, c.loops)
	address := c.address
	for range c.loops {
		l, err := core.NewLoop(core.LoopOptions{Uring: c.uring, ReusePort: c.loops > 1})
		if err != nil {
			return errors.Join(err, closeAll(servers))
		}
		servers = append(servers, l)
		s, err := l.Listen("tcp", address, func(*core.Conn) core.Handler { return echo{} })
		if err != nil {
			return errors.Join(err, closeAll(servers))
		}
		// With port 0 the first loop chooses, the others follow.
		address = s.Addr().String()
	}
	ready(address)
	return runAll(ctx, servers)
}

// runAll runs every loop in a goroutine of its own and then closes it.
func runAll(ctx context.Context, loops []*core.Loop) error {
	results := make([]error, len(loops))
	var running sync.WaitGroup
	for i, l := range loops {
		running.Go(func() {
			results[i] = errors.Join(l.Run(ctx), l.Close())
		})
	}
	running.Wait()
	return errors.Join(results...)
}

func closeAll(loops []*core.Loop) error {
	var err error
	for _, l := range loops {
		err = errors.Join(err, l.Close())
	}
	return err
}
