package core

import (
	"fmt"
	"io"
	"strconv"
	"syscall"
	"time"
)

// traceDriver writes a line for every operation and completion of a driver.
type traceDriver struct {
	Driver
	out   io.Writer
	start time.Time
}

// Trace wraps a driver so that every operation and every completion is written
// to out, a line each, with the seconds since Trace was called.
func Trace(driver Driver, out io.Writer) Driver {
	return &traceDriver{Driver: driver, out: out, start: time.Now()}
}

var opNames = map[OpKind]string{
	OpReceive: "receive", OpSend: "send", OpAccept: "accept", OpConnect: "connect", OpPoll: "poll",
	OpReceiveDatagrams: "receive-datagrams", OpRead: "read", opReadable: "readable", opWritable: "writable",
	OpReceiveOnce: "receive-once", OpReceiveInto: "receive-into", OpSendAll: "send-all",
	OpCancel: "cancel", opWake: "wake", opConnectPoll: "connect-poll",
}

// String is the kind's name and the object's id.
func (t Token) String() string {
	name, known := opNames[t.kind()]
	if !known {
		name, known = fileOpNames[t.kind()]
	}
	if !known {
		name = "op-" + strconv.Itoa(int(t.kind()))
	}
	return name + "#" + strconv.FormatUint(uint64(t.id()), 10)
}

func (d *traceDriver) line(format string, arguments ...any) {
	// A trace that can't be written is no reason to stop what it traces.
	_, _ = fmt.Fprintf(d.out, "kloop %10.6f "+format+"\n", append([]any{time.Since(d.start).Seconds()}, arguments...)...)
}

// Submit implements Driver.
func (d *traceDriver) Submit(op *Op) error {
	switch {
	case op.Kind == OpCancel:
		d.line("submit cancel of %v", op.Target)
	case op.Kind == OpSend:
		bytes := 0
		for _, p := range op.Parts {
			bytes += len(p)
		}
		d.line("submit %v fd %d: %d bytes in %d parts, quick %v, worker %v", op.Token, op.FD, bytes, len(op.Parts), op.Quick, op.Worker)
	default:
		d.line("submit %v fd %d", op.Token, op.FD)
	}
	return d.Driver.Submit(op)
}

// Reap implements Driver.
func (d *traceDriver) Reap(dst []Completion) int {
	n := d.Driver.Reap(dst)
	for _, done := range dst[:n] {
		d.line("  done %v: %s more %v", done.Token, resultText(done.Res), done.More)
	}
	return n
}

// SendNow implements Driver.
func (d *traceDriver) SendNow(fd int, parts [][]byte) (int, error) {
	n, err := d.Driver.SendNow(fd, parts)
	d.line("send now fd %d in %d parts: %d, %v", fd, len(parts), n, err)
	return n, err
}

// SendDatagramNow implements Driver.
func (d *traceDriver) SendDatagramNow(fd int, p, addr []byte) error {
	err := d.Driver.SendDatagramNow(fd, p, addr)
	d.line("send datagram now fd %d of %d bytes: %v", fd, len(p), err)
	return err
}

// WriteNow implements Driver.
func (d *traceDriver) WriteNow(fd int, parts [][]byte) (int, error) {
	n, err := d.Driver.WriteNow(fd, parts)
	d.line("write now fd %d in %d parts: %d, %v", fd, len(parts), n, err)
	return n, err
}

// SyncCancel implements Driver.
func (d *traceDriver) SyncCancel(token Token) error {
	err := d.Driver.SyncCancel(token)
	d.line("cancel %v now: %v", token, err)
	return err
}

// Attach implements Driver.
func (d *traceDriver) Attach() (bool, error) {
	moved, err := d.Driver.Attach()
	d.line("attach: moved %v, %v", moved, err)
	return moved, err
}

func resultText(res int32) string {
	if res < 0 {
		return syscall.Errno(-res).Error()
	}
	return strconv.Itoa(int(res))
}
