package core_test

import (
	"context"
	"fmt"

	"kloop/core"
)

// greeter says hello, says what it got, and closes when its peer does.
type greeter struct{ name string }

func (g greeter) Received(c *core.Conn, p []byte) {
	fmt.Printf("%s got %q\n", g.name, p)
	if g.name == "server" {
		c.Write([]byte("hello client"))
		return
	}
	c.Close()
}
func (g greeter) ReceivedEOF(*core.Conn) bool          { return false }
func (g greeter) Backlog(*core.Conn, int, int)         {}
func (g greeter) Closed(_ *core.Conn, _ *core.OpError) { fmt.Println(g.name, "is done") }

// A server and its client in one loop. Nothing here needs a lock: all of it runs in
// the thread of Run.
func ExampleLoop() {
	loop, err := core.NewLoop(core.LoopOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	server, err := loop.Listen("tcp", "127.0.0.1:0", func(*core.Conn) core.Handler { return greeter{"server"} })
	if err != nil {
		fmt.Println(err)
		return
	}
	err = loop.Dial("tcp", server.Addr().String(), client{greeter{"client"}, loop}, func(c *core.Conn, err error) {
		if err != nil {
			fmt.Println(err)
			return
		}
		c.Write([]byte("hello server"))
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := loop.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	if err := loop.Close(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// server got "hello server"
	// client got "hello client"
	// client is done
	// server is done
}

// client is a greeter that ends the loop. Loop.Close ends what is left.
type client struct {
	greeter
	loop *core.Loop
}

func (c client) Closed(conn *core.Conn, err *core.OpError) {
	c.greeter.Closed(conn, err)
	c.loop.Stop()
}
