package core

import (
	"bytes"
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"

	"kloop/uring"
)

// What the operations of the simulated driver do, as far as they can.

// burstMost bounds the completions of one multishot operation at a time.
const burstMost = 3

// attempt has an operation do what it can now.
func (d *simDriver) attempt(op *simOp) {
	switch op.Kind {
	case OpSend:
		d.attemptSend(op)
	case OpSendAll:
		for !op.over && d.attemptSendAll(op) {
		}
	case OpReceive, OpRead, OpReceiveOnce, OpReceiveInto:
		for range burstMost {
			if op.over || !d.attemptReceive(op) {
				return
			}
		}
	case OpReceiveDatagrams:
		for range burstMost {
			if op.over || !d.attemptDatagram(op) {
				return
			}
		}
	case OpAccept:
		for range burstMost {
			if op.over || !d.attemptAccept(op) {
				return
			}
		}
	case OpConnect:
		d.attemptConnect(op)
	case OpPoll:
		d.attemptPoll(op)
	default:
		if op.Kind.isFile() {
			d.attemptFile(op)
			return
		}
		violate("the simulation knows no operation %v", op.Token)
	}
}

func (d *simDriver) fail(op *simOp, errno syscall.Errno) {
	d.post(op, Completion{Res: op.file.tell(errno)}, false)
}

func lengthOf(parts [][]byte) (total int) {
	for _, p := range parts {
		total += len(p)
	}
	return total
}

// give has the kernel take what it can of parts.
func (d *simDriver) give(f *file, parts [][]byte, waits bool) (int, syscall.Errno) {
	if f.out.ended {
		violate("fd %d is written to after its end", f.fd)
	}
	switch {
	case f.errno != 0:
		return 0, f.takeError()
	case f.broken:
		return 0, syscall.EPIPE
	case !waits && d.k.fault(d.faults.again):
		return 0, syscall.EAGAIN
	}
	if errno := d.k.errorOf(f, true); errno != 0 {
		return 0, errno
	}
	total := lengthOf(parts)
	n := f.writable(total)
	if n > 1 && !(f.kind == pipeWriteFile && total <= pipeAtomicBytes) && d.k.fault(d.faults.short) {
		n = d.k.between(1, n)
	}
	if n == 0 {
		return 0, syscall.EAGAIN
	}
	f.take(parts, n)
	if d.k.calm {
		f.peer.wake()
	}
	return n, 0
}

func (d *simDriver) attemptSend(op *simOp) {
	f := op.file
	if !op.Quick && f.errno == 0 && !f.broken && f.out.room() <= 0 {
		return
	}
	n, errno := d.give(f, op.Parts, !op.Quick)
	if errno == syscall.EAGAIN && !op.Quick {
		return
	}
	f.actor.sent(op.Quick, n, lengthOf(op.Parts), errno)
	switch {
	case errno != 0:
		d.fail(op, errno)
	case op.Quick && d.faults.silent && n == lengthOf(op.Parts):
		op.over, op.file = true, nil
	default:
		d.post(op, Completion{Res: int32(n)}, false)
	}
}

// attemptSendAll answers whether it may do more.
func (d *simDriver) attemptSendAll(op *simOp) bool {
	f := op.file
	rest := op.Parts[0][op.moved:]
	if f.errno == 0 && !f.broken && f.out.room() <= 0 {
		return false
	}
	n, errno := d.give(f, [][]byte{rest}, true)
	op.moved += n
	switch {
	case errno != 0 && op.moved > 0:
		d.post(op, Completion{Res: int32(op.moved)}, false)
	case errno != 0:
		d.fail(op, errno)
	case n == len(rest), d.k.fault(d.faults.signal):
		d.post(op, Completion{Res: int32(op.moved)}, false)
	}
	return true
}

// attemptReceive answers whether it may do more.
func (d *simDriver) attemptReceive(op *simOp) bool {
	f := op.file
	switch {
	case f.errno != 0:
		d.fail(op, f.takeError())
		return false
	case f.in.left() == 0 && (f.in.ended || f.noWriter):
		d.post(op, Completion{}, false)
		return false
	case f.in.left() == 0 && f.kind == deviceFile:
		d.post(op, Completion{Res: -int32(syscall.EAGAIN)}, false)
		return false
	case f.in.left() == 0:
		return false
	case d.k.fault(d.faults.again):
		d.post(op, Completion{Res: -int32(syscall.EAGAIN)}, false)
		return false
	}
	if errno := d.k.errorOf(f, false); errno != 0 {
		d.fail(op, errno)
		return false
	}
	done := Completion{}
	var memory []byte
	if op.Kind == OpReceiveInto {
		memory = op.Parts[0]
	} else {
		id, b := d.buffer()
		if b == nil {
			d.post(op, Completion{Res: -int32(syscall.ENOBUFS)}, false)
			return false
		}
		done.Buffer, memory = id, b.memory[:d.faults.bufferSize]
		if op.Kind == OpReceiveOnce {
			memory = memory[:min(len(memory), int(op.Limit))]
		}
	}
	n := min(f.in.left(), len(memory))
	if d.k.fault(d.faults.short) {
		n = d.k.between(1, n)
	}
	f.put(memory[:n])
	done.Res = int32(n)
	if done.Buffer != 0 {
		done.Data = memory[:n:n]
	}
	more := op.multishot() && !d.k.fault(d.faults.lastOne)
	d.post(op, done, more)
	return more
}

// attemptDatagram answers whether it may do more.
func (d *simDriver) attemptDatagram(op *simOp) bool {
	f := op.file
	switch {
	case f.errno != 0:
		d.fail(op, f.takeError())
		return false
	case len(f.inbox) == 0:
		return false
	case d.k.fault(d.faults.signal):
		d.post(op, Completion{Res: -int32(syscall.EINTR)}, false)
		return false
	}
	id, b := d.buffer()
	if b == nil {
		d.post(op, Completion{Res: -int32(syscall.ENOBUFS)}, false)
		return false
	}
	size := min(f.inbox[0], d.faults.bufferSize)
	f.inbox = f.inbox[1:]
	address := f.address()
	clear(b.memory[:uring.DatagramHeader])
	binary.NativeEndian.PutUint32(b.memory, uint32(len(address)))
	copy(b.memory[uring.DatagramHeader-uring.AddressRoom:], address)
	copy(b.memory[uring.DatagramHeader:], patternOf(f.in.key, f.heard, size))
	f.heard++
	data := b.memory[:uring.DatagramHeader+size]
	more := size > 0 && !d.k.fault(d.faults.lastOne)
	d.post(op, Completion{Res: int32(len(data)), Buffer: id, Data: data}, more)
	return more
}

// address is a raw sockaddr of f's peer. Its last byte finds f, for kernel.scout.
func (f *file) address() []byte {
	raw := make([]byte, 8)
	binary.NativeEndian.PutUint16(raw, unix.AF_UNIX)
	raw[len(raw)-1] = byte(f.fd)
	return raw
}

// giveDatagram has the kernel take a datagram, or refuse it.
func (d *simDriver) giveDatagram(f *file, p []byte) syscall.Errno {
	if !bytes.Equal(p, patternOf(f.out.key, f.sent, len(p))) {
		violate("fd %d: datagram %d is another than was sent", f.fd, f.sent)
	}
	switch {
	case d.k.fault(d.faults.again), f.outbox >= f.out.capacity:
		return syscall.EAGAIN
	case d.k.fault(d.faults.signal):
		return syscall.EINTR
	}
	f.sent++
	switch {
	case f.errno != 0:
		return f.takeError()
	case d.k.fault(d.faults.noMemory):
		return syscall.ENOBUFS
	}
	f.outbox++
	if d.k.calm {
		f.peer.wake()
	}
	return 0
}

// attemptAccept answers whether it may do more.
func (d *simDriver) attemptAccept(op *simOp) bool {
	f := op.file
	if f.backlog == 0 {
		return false
	}
	var errno syscall.Errno
	switch {
	case d.k.fault(d.faults.noFDs):
		errno = syscall.EMFILE
	case d.k.fault(d.faults.noMemory):
		errno = syscall.ENOMEM
	case d.k.fault(d.faults.signal):
		errno = syscall.EINTR
	case d.k.fault(d.faults.again):
		errno = syscall.EAGAIN
	case d.k.fault(d.faults.abort):
		errno = syscall.ECONNABORTED
		f.backlog--
	}
	if errno != 0 {
		d.fail(op, errno)
		return false
	}
	f.backlog--
	accepted := d.k.add(streamFile)
	more := !d.k.fault(d.faults.lastOne)
	d.post(op, Completion{Res: int32(accepted.fd)}, more)
	return more
}

func (d *simDriver) attemptConnect(op *simOp) {
	f := op.file
	switch f.connect {
	case connectUnbegun:
		f.connect = connectUnderWay
		d.k.after(lateMost, func() { d.k.connected(f) })
		if d.k.fault(d.faults.signal) {
			d.post(op, Completion{Res: -int32(syscall.EINTR)}, false)
		}
	case connectFailed:
		d.fail(op, f.takeError())
	case connectDone:
		d.post(op, Completion{}, false)
	}
}

// connected is the outcome of a connect.
func (k *kernel) connected(f *file) {
	switch {
	case k.chance(0.8):
		f.connect = connectDone
	case k.chance(0.5):
		f.connect, f.errno = connectFailed, syscall.ECONNREFUSED
	default:
		f.connect, f.errno = connectFailed, syscall.ETIMEDOUT
	}
}

func (d *simDriver) attemptPoll(op *simOp) {
	events := op.file.events(d.k) & (op.Events | alwaysPolled)
	if events == 0 {
		return
	}
	switch {
	case d.k.fault(d.faults.signal):
		d.post(op, Completion{Res: -int32(syscall.EINTR)}, false)
	default:
		d.post(op, Completion{Res: int32(events)}, false)
	}
}

// cancelSome ends operations as the end of the thread does that submitted them.
func (d *simDriver) cancelSome() {
	for _, op := range d.armed {
		if !op.over && d.k.fault(d.faults.cancelled) {
			d.end(op)
		}
	}
}

// SendNow implements Driver.
func (d *simDriver) SendNow(fd int, parts [][]byte) (int, error) {
	f := d.k.file(fd)
	n, errno := d.give(f, parts, false)
	d.k.log("send now fd %d: %d %d", fd, n, errno)
	f.actor.sentNow(n, lengthOf(parts), errno)
	if errno != 0 {
		f.tell(errno)
		return 0, errno
	}
	return n, nil
}

// WriteNow implements Driver.
func (d *simDriver) WriteNow(fd int, parts [][]byte) (int, error) {
	if total := lengthOf(parts); len(parts) > 1 && total > pipeAtomicBytes {
		violate("fd %d: parts of %d bytes together are written to a pipe, which may tear them", fd, total)
	}
	return d.SendNow(fd, parts)
}

// SendDatagramNow implements Driver.
func (d *simDriver) SendDatagramNow(fd int, p, addr []byte) error {
	f := d.k.file(fd)
	errno := d.giveDatagram(f, p)
	d.k.log("send datagram now fd %d: %d", fd, errno)
	if errno != 0 {
		f.tell(errno)
		return errno
	}
	return nil
}
