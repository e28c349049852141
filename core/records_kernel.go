package core

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"kloop/epoll"
	"kloop/ktls"
)

// KernelUse says whether the kernel's TLS is to seal and open the records of a connection.
type KernelUse uint8

// Uses of the kernel.
const (
	KernelNever      KernelUse = iota
	KernelIfPossible           // else Go
	KernelOnly                 // else StartRecords fails
)

// RecordsOffload says who seals and opens the records of a connection: the kernel or Go.
type RecordsOffload struct {
	KernelSeals bool
	KernelOpens bool
	Reason      string // why not the kernel, where it is wanted
}

// recordSide says who has one direction of the records.
type recordSide uint8

const (
	sideGo     recordSide = iota
	sideMoving            // Go, until what it has begun is over
	sideKernel
)

// RecordsOffload answers who has the records of c. It changes, from Go to the kernel, once
// what came and went before them is over: RecordHandler.RecordsMoved tells.
func (c *Conn) RecordsOffload() RecordsOffload {
	r := c.records
	if r == nil {
		return RecordsOffload{}
	}
	o := RecordsOffload{KernelSeals: r.tx == sideKernel, KernelOpens: r.rx == sideKernel}
	switch {
	case r.refusal != nil:
		o.Reason = ktls.Reason(r.refusal)
	case r.tx == sideMoving:
		o.Reason = "the kernel seals as soon as it has taken what is queued"
	case r.rx == sideMoving:
		o.Reason = "the kernel opens as soon as what it had received is opened"
	}
	return o
}

// startKernel begins to move the records to the kernel. What is queued is offered first, as
// it is: most handshakes end with a flight of this side, and TX starts behind it.
func (c *Conn) startKernel() error {
	r := c.records
	err := kernelCan(c.fd, r.Sealer)
	if err == nil {
		err = ktls.EnableKernel(c.fd)
	}
	if errors.Is(err, syscall.ENOTCONN) {
		err = &ktls.UnsupportedError{Reason: "the peer has gone: " + err.Error()}
	}
	if err != nil {
		r.refusal = err
		return err
	}
	r.tx, r.rx = sideMoving, sideMoving
	r.cmsg = make([]byte, ktls.ControlSize)
	if c.sending == sendIdle && !c.backlog && c.queue.bytes > 0 {
		if _, errno := c.offer(); errno != 0 && !transient(errno) {
			c.fail("write", errno)
			return nil
		}
	}
	c.giveTX()
	c.engine.markDirty(c)
	return r.refusal
}

// kernelCan answers why the kernel can't have the records of a socket.
func kernelCan(fd int, s *ktls.Sealer) error {
	protocol, errno := epoll.Option(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if errno != 0 {
		return fmt.Errorf("kloop: SO_PROTOCOL: %w", errno)
	}
	if protocol != unix.IPPROTO_TCP {
		return &ktls.UnsupportedError{Reason: "the kernel's TLS works over TCP sockets only"}
	}
	return ktls.KernelCan(s)
}

// moveSend has the kernel seal, if it is to and everything before is in its hands.
func (c *Conn) moveSend() {
	if c.giveTX() && c.records.Handler != nil {
		c.records.Handler.RecordsMoved(c, c.RecordsOffload())
	}
}

// giveTX is moveSend without a word. It answers whether anything has changed.
func (c *Conn) giveTX() bool {
	r := c.records
	if r == nil || r.tx != sideMoving || c.closing != closeOpen || r.closed ||
		c.sending != sendIdle || c.queue.bytes > 0 || c.engine.sealing == c {
		return false
	}
	r.tx = sideKernel
	if err := r.Sealer.GiveToKernel(c.fd); err != nil {
		r.tx, r.refusal = sideGo, err
		if r.rx == sideMoving {
			r.rx = sideGo
		}
	} else if r.ZeroCopy && ktls.Have(ktls.FeatureZeroCopy) == nil {
		_ = ktls.SetZeroCopy(c.fd, true) // a hint; no other way of sending is worse without it
	}
	return true
}

// receiveMoves says whether the kernel is to open records and does not do so yet.
func (c *Conn) receiveMoves() bool { return c.records != nil && c.records.rx == sideMoving }

// receivesPastKernel says whether a receive is armed that would take records from the
// socket before the kernel opens them.
func (c *Conn) receivesPastKernel() bool {
	return c.readsRecords() && c.receiveToken.kind() == OpReceive
}

// moveReceive has the kernel open what comes next, if nothing has been received that Go has
// not opened. Nothing is armed. It answers false while what had been received is still on its
// way to the records.
func (c *Conn) moveReceive() bool {
	r := c.records
	if r.early != nil || c.engine.ready.holds(makeToken(OpReceive, c.id)) {
		c.engine.markDirty(c)
		return false
	}
	if r.partial != nil || !c.opens() {
		return true
	}
	r.rx = sideKernel
	if err := r.Opener.GiveToKernel(c.fd); err != nil {
		r.rx, r.refusal = sideGo, err
	} else if r.NoPadding && r.Opener.Suite().Version == ktls.TLS13 && ktls.Have(ktls.FeatureExpectNoPad) == nil {
		_ = ktls.SetExpectNoPad(c.fd, true) // likewise
	}
	if r.Handler != nil {
		r.Handler.RecordsMoved(c, c.RecordsOffload())
	}
	return true
}
