package core

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"kloop/uring"
)

// PipeKind says what the fd of a one-way connection is, hence by which operations it
// reads or writes.
type PipeKind uint8

const (
	// notPipe is a connection that receives and sends: Adopt's.
	notPipe PipeKind = iota
	// SocketReader receives as Adopt's connections do.
	SocketReader
	// SocketWriter sends as they do; its receive is a poll for the peer's end.
	SocketWriter
	// PipeReader is a pipe or a FIFO. It is read in the ring.
	PipeReader
	// PipeWriter is written with writev(2), and polled while it is full; its receive is a
	// poll for the reader's end.
	PipeWriter
	// DeviceReader is a character device, a terminal perhaps. It is polled and then read:
	// an operation on one that is O_NONBLOCK does not wait.
	DeviceReader
	// DeviceWriter is PipeWriter, without a poll for an end: there is no reader that goes away.
	DeviceWriter

	pipeKinds
)

// pipeAtomicBytes is PIPE_BUF: what one write(2) to a pipe gives whole, if it gives no
// more (pipe(7)). Other processes may write to the same pipe.
const pipeAtomicBytes = 4096

// hangUpEvents are those of the end of a reader: of a socket's peer, to be asked for;
// of a pipe's reader, POLLERR, which is always polled for.
const hangUpEvents = unix.POLLRDHUP

// AdoptPipe makes a connection of one direction of a non-blocking pipe, socket or
// character device. Its rules are Adopt's. WriteEOF closes it.
//
// A writer that is resumed is told with ReceivedEOF when nobody will read any more.
func (e *Engine) AdoptPipe(fd int, kind PipeKind, handler Handler) (*Conn, error) {
	if kind == notPipe || kind >= pipeKinds {
		return nil, fmt.Errorf("kloop: there is no such kind of pipe: %w", os.ErrInvalid)
	}
	c, err := e.Adopt(fd, handler)
	if err != nil {
		return nil, err
	}
	c.kind = kind
	c.pollFirst = kind == DeviceReader
	return c, nil
}

// byWriting says whether c sends with write(2), and not as a socket.
func (k PipeKind) byWriting() bool { return k == PipeWriter || k == DeviceWriter }

// sendsByCall says whether c sends by a system call, and polls for room, rather than by
// an operation of the driver.
func (c *Conn) sendsByCall() bool { return c.kind.byWriting() || c.kernelSeals() }

// byReading says whether c receives with read(2), and not as a socket.
func (k PipeKind) byReading() bool { return k == PipeReader || k == DeviceReader }

// receiveOp is the operation that c's receive is next, and its token.
func (c *Conn) receiveOp() Op {
	switch {
	case c.kind == SocketWriter || c.kind.byWriting():
		return c.pollOp(hangUpEvents)
	case c.readsRecords():
		return c.pollOp(unix.POLLIN)
	case c.kind.byReading() && c.pollFirst && !c.readable:
		return c.pollOp(unix.POLLIN)
	case c.kind.byReading():
		return Op{Kind: OpRead, FD: c.fd, Token: makeToken(OpReceive, c.id), Once: c.pollFirst}
	}
	return Op{Kind: OpReceive, FD: c.fd, Token: makeToken(OpReceive, c.id)}
}

func (c *Conn) pollOp(events uint32) Op {
	return Op{Kind: OpPoll, FD: c.fd, Events: events, Token: makeToken(opReadable, c.id)}
}

// receiveReady handles a completion of the poll in place of a receive.
func (c *Conn) receiveReady(done *Completion) {
	if !done.More {
		c.receive = receiveIdle
	}
	switch {
	case c.closing != closeOpen:
		c.finish()
	case done.Res < 0:
		c.receiveFailed(done)
	case c.kind == notPipe:
		c.readRecords()
	case c.kind.byReading():
		c.readable = true
		c.engine.markDirty(c)
	default:
		c.receivedEOF()
	}
}

// awaitsWriter says whether a reader that has met its end before any byte is a FIFO
// that nobody had opened for writing yet. read(2) does not tell that from an end, poll(2)
// does, and so its first bytes are polled for; they may be there by now.
func (c *Conn) awaitsWriter() bool {
	return c.kind == PipeReader && !c.begun && !c.engine.calls.ended(c.fd)
}

// sendToken is that of the send, or poll in its place, that is under way.
func (c *Conn) sendToken() Token {
	if c.sendsByCall() && c.flight == 0 {
		return makeToken(opWritable, c.id)
	}
	return makeToken(OpSend, c.id)
}

// startWrite is startSend for who sends by calls.
func (c *Conn) startWrite() {
	switch {
	case c.sendsInBackground():
		c.sendInBackground()
	case c.backlog:
		c.sending = sendPolled
		c.engine.submit(Op{Kind: OpPoll, FD: c.fd, Events: unix.POLLOUT, Token: makeToken(opWritable, c.id)})
	default:
		taken, errno := c.offer()
		c.wrote(taken, errno)
	}
}

// writable handles the completion of the poll for room.
func (c *Conn) writable(done *Completion) {
	c.sending = sendIdle
	if c.records != nil {
		c.records.full = false
	}
	switch {
	case c.closing == closeAborting:
		c.dropQueue()
		c.finish()
	case done.Res < 0:
		c.wrote(0, syscall.Errno(-done.Res))
	case c.sendsInBackground():
		c.sendInBackground()
	default:
		taken, errno := c.offer()
		c.wrote(taken, errno)
	}
}

// wrote tells of what offer did, and has the next flush go on.
func (c *Conn) wrote(taken int, errno syscall.Errno) {
	switch {
	case errno == 0, transient(errno), errno == syscall.ECANCELED:
		c.progressed(taken, c.queue.bytes > 0)
		c.sendNext()
	case c.records != nil:
		c.sealFailed(errno)
	default:
		c.fail("write", errno)
	}
}

// offer gives the kernel what it takes now of the queue. It answers the bytes taken
// and the error that ended it.
func (c *Conn) offer() (taken int, errno syscall.Errno) {
	if c.kernelSeals() {
		return c.offerRecords()
	}
	e := c.engine
	give := e.driver.SendNow
	if c.kind.byWriting() {
		give = e.driver.WriteNow
	}
	for c.queue.bytes > 0 {
		var want int
		e.stats.DirectSends++
		e.parts, want = c.gather(e.parts[:0])
		n, err := give(c.fd, e.parts)
		clear(e.parts)
		if n > 0 {
			c.advance(n)
			taken += n
		}
		if failed, ok := err.(syscall.Errno); ok {
			return taken, failed
		}
		if n < want {
			break
		}
	}
	return taken, 0
}

// gather appends what one send is to take to dst, and answers its bytes. Several
// parts to be written together are at most pipeAtomicBytes, so that none is torn.
func (c *Conn) gather(dst [][]byte) ([][]byte, int) {
	if c.kind.byWriting() {
		return c.queue.gatherWhole(dst, pipeAtomicBytes, uring.WriteNowParts)
	}
	return c.queue.gather(dst)
}
