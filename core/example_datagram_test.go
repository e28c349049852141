package core_test

import (
	"context"
	"fmt"

	"kloop/core"
)

// counter answers each datagram with its length, as the server, and prints it, as the client.
type counter struct {
	name string
	loop *core.Loop
}

func (c counter) ReceivedFrom(d *core.Datagram, p, from []byte) {
	fmt.Printf("%s got %q\n", c.name, p)
	if c.name == "client" {
		c.loop.Stop()
		return
	}
	if err := d.SendTo(fmt.Appendf(nil, "%d bytes", len(p)), from); err != nil {
		fmt.Println(err)
	}
}
func (c counter) Failed(_ *core.Datagram, err *core.OpError) { fmt.Println(c.name, err) }
func (c counter) Sent(*core.Datagram, int, int)              {}
func (c counter) DatagramClosed(*core.Datagram)              { fmt.Println(c.name, "is done") }

// Two UDP endpoints in one loop.
func ExampleLoop_ListenPacket() {
	loop, err := core.NewLoop(core.LoopOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	server, err := loop.ListenPacket("udp", "127.0.0.1:0", counter{"server", loop})
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := loop.ListenPacket("udp", "127.0.0.1:0", counter{"client", loop})
	if err != nil {
		fmt.Println(err)
		return
	}
	to, err := core.RawAddr(server.Addr())
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := client.SendTo([]byte("how long?"), to); err != nil {
		fmt.Println(err)
	}
	if err := loop.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	if err := loop.Close(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// server got "how long?"
	// client got "9 bytes"
	// server is done
	// client is done
}
