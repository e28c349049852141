package main

/*
#include "private.h"
*/
import "C"

import (
	"errors"
	"slices"
	"syscall"
	"unsafe"

	"kloop/core"
	"kloop/ktls"
)

// tlsRecords is the handler of one connection's records. The host's own TLS, which
// made the handshake, is shown what comes beside data, by shadow. A server of TLS 1.3 has
// none: nothing comes that its TLS would have to know.
type tlsRecords struct {
	loop   *loop
	shadow *ktls.Shadow
}

var _ core.RecordHandler = (*tlsRecords)(nil)

//export kloop_go_tls_start
func kloop_go_tls_start(handle C.uint64_t, id C.uint32_t, t *C.struct_kloop_tls) (result C.int) {
	l := loopOf(handle)
	defer l.contain(&result)
	if l.broken {
		return -C.int(syscall.ENOTRECOVERABLE)
	}
	l.takeCommands()
	err := l.startTLS(uint32(id), t)
	l.tell()
	if err == nil {
		return 0
	}
	tellReason(t, ktls.Reason(err))
	var unsupported *ktls.UnsupportedError
	var kernel *ktls.KernelError
	if errors.As(err, &unsupported) || errors.As(err, &kernel) || errors.Is(err, ktls.ErrNotSupported) {
		return -C.int(syscall.EOPNOTSUPP)
	}
	return failure(err)
}

func (l *loop) startTLS(id uint32, t *C.struct_kloop_tls) error {
	c := l.engine.Conn(id)
	if c == nil {
		return syscall.ENOENT
	}
	client := t.client != 0
	sealer, opener, err := takeOver(t)
	if err != nil {
		return err
	}
	var shadow *ktls.Shadow
	if client || sealer.Suite().Version == ktls.TLS12 {
		shadow = ktls.NewShadow(sealer, opener)
	}
	handler := &tlsRecords{loop: l, shadow: shadow}
	use := core.KernelNever
	switch t.offload {
	case C.KLOOP_TLS_KERNEL:
		use = core.KernelOnly
	case C.KLOOP_TLS_AUTO:
		use = core.KernelIfPossible
	}
	behind := l.behind(c.Tag, hostBytes(t.behind, t.behind_len))
	err = c.StartRecords(core.RecordOptions{
		Sealer:      sealer,
		Opener:      opener,
		Client:      client,
		Handler:     handler,
		Shadow:      shadow,
		Workers:     int(t.workers),
		Threshold:   int(t.threshold),
		Background:  int(t.background),
		ZeroCopy:    t.hints&C.KLOOP_TLS_ZEROCOPY != 0,
		NoPadding:   t.hints&C.KLOOP_TLS_NO_PADDING != 0,
		SilentClose: true,
		Kernel:      use,
	}, behind)
	if err != nil {
		if shadow != nil {
			shadow.Wipe()
		}
		sealer.Wipe()
		opener.Wipe()
		return err
	}
	if len(behind) > 0 {
		l.dropBehind(c.Tag)
	}
	offload := c.RecordsOffload()
	t.tx, t.rx = recordSide(offload.KernelSeals), recordSide(offload.KernelOpens)
	tellReason(t, offload.Reason)
	return nil
}

// recordSide is the host's word for who has a direction of records.
func recordSide(kernel bool) C.uint32_t {
	if kernel {
		return C.KLOOP_TLS_KERNEL
	}
	return C.KLOOP_TLS_GO
}

// tellReason gives the host as much of a text as there is room for.
func tellReason(t *C.struct_kloop_tls, text string) {
	reason := unsafe.Slice((*byte)(unsafe.Pointer(&t.reason)), len(t.reason))
	reason[copy(reason[:len(reason)-1], text)] = 0
}

// takeOver derives the keys of a handshake from what passed and its key log.
func takeOver(t *C.struct_kloop_tls) (*ktls.Sealer, *ktls.Opener, error) {
	client := t.client != 0
	sent, received := hostBytes(t.sent, t.sent_len), hostBytes(t.received, t.received_len)
	watch := ktls.NewWatch(client)
	// The server's direction first: its hello says what a ChangeCipherSpec of the client's means.
	if client {
		watch.Received(received)
		watch.Sent(sent)
	} else {
		watch.Sent(sent)
		watch.Received(received)
	}
	var secrets ktls.Secrets
	defer secrets.Wipe()
	if random := watch.ClientRandom(); random != nil {
		if err := secrets.ParseKeyLog(hostBytes(t.log, t.log_len), random); err != nil {
			return nil, nil, err
		}
	}
	return ktls.TakeOverLater(watch, &secrets,
		ktls.Passed{Records: uint64(t.sent_records), Last: hostBytes(t.last_sent, t.last_sent_len)},
		ktls.Passed{Records: uint64(t.received_records), Last: hostBytes(t.last_received, t.last_received_len)})
}

// behind adds to what came behind the handshake the data of events that found no room.
func (l *loop) behind(tag uint64, p []byte) []byte {
	for i := range l.eventSpill {
		if event := &l.eventSpill[i]; isDataOf(event, tag) {
			p = append(slices.Clip(p), hostBytes(event.ptr, event.len)...)
		}
	}
	return p
}

// dropBehind takes these events off, and that of the stream's end: the core tells it once
// more, behind what it opens.
func (l *loop) dropBehind(tag uint64) {
	l.eventSpill = slices.DeleteFunc(l.eventSpill, func(event C.struct_kloop_event) bool {
		return isDataOf(&event, tag) || event.kind == C.KLOOP_EV_EOF && uint64(event.user) == tag
	})
}

func isDataOf(event *C.struct_kloop_event, tag uint64) bool {
	return event.kind == C.KLOOP_EV_DATA && uint64(event.user) == tag
}

// tlsEmitted sends what the host's TLS answers to the peer's messages. Its alerts are about the
// records that were made for it.
func (l *loop) tlsEmitted(c *core.Conn, p []byte) {
	handler, ok := c.RecordHandler().(*tlsRecords)
	if !ok || handler.shadow == nil {
		return
	}
	p = slices.Clone(p) // the host's is a bytes object
	for len(p) > 0 {
		record, err := handler.shadow.Open(p)
		if err != nil {
			return
		}
		if record.Type == ktls.TypeHandshake {
			c.WriteMessages(record.Content)
		}
		p = p[record.Size:]
	}
}

// Returned implements core.RecordHandler.
func (t *tlsRecords) Returned(c *core.Conn) {
	t.loop.emit(C.struct_kloop_event{kind: C.KLOOP_EV_TLS_RETURNED, user: C.uint64_t(c.Tag)})
}

// Messages implements core.RecordHandler.
func (t *tlsRecords) Messages(c *core.Conn, messages []byte) {
	if t.shadow == nil {
		return
	}
	if records, err := t.shadow.Show(ktls.TypeHandshake, messages); err == nil {
		t.loop.emitMemory(C.struct_kloop_event{kind: C.KLOOP_EV_TLS_MESSAGE, user: C.uint64_t(c.Tag)}, records)
	}
}

// RecordsFailed implements core.RecordHandler. The host's TLS is shown why, if it can be: it
// then has its own words for it.
func (t *tlsRecords) RecordsFailed(c *core.Conn, err error) {
	var record *ktls.RecordError
	var peer *ktls.PeerAlertError
	var shown []byte
	event := C.struct_kloop_event{kind: C.KLOOP_EV_TLS_FAILED, user: C.uint64_t(c.Tag)}
	switch {
	case errors.As(err, &peer):
		event.res = C.int32_t(peer.Alert) | C.KLOOP_TLS_FROM_PEER
		if alert := peer.Alert.Content(); t.shadow != nil {
			shown, _ = t.shadow.Show(ktls.TypeAlert, alert[:])
		}
	case errors.As(err, &record):
		event.res = C.int32_t(record.Alert)
		if record.Alert == ktls.AlertBadRecordMAC && t.shadow != nil {
			shown, _ = t.shadow.ShowCorrupt()
		}
	}
	if len(shown) > 0 {
		t.loop.emitMemory(C.struct_kloop_event{kind: C.KLOOP_EV_TLS_MESSAGE, user: C.uint64_t(c.Tag)}, shown)
	}
	t.loop.emitMemory(event, []byte(err.Error()))
}

// RecordsMoved implements core.RecordHandler.
func (t *tlsRecords) RecordsMoved(c *core.Conn, o core.RecordsOffload) {
	t.loop.emitMemory(C.struct_kloop_event{
		kind: C.KLOOP_EV_TLS_MOVED,
		user: C.uint64_t(c.Tag),
		res:  C.int32_t(recordSide(o.KernelSeals) | recordSide(o.KernelOpens)<<8),
	}, []byte(o.Reason))
}

// emitMemory emits an event with memory of Go's, which is kept as long as the event.
func (l *loop) emitMemory(event C.struct_kloop_event, p []byte) {
	l.kept = append(l.kept, p)
	event.ptr, event.len = C.uint64_t(addressOf(p)), C.uint64_t(len(p))
	l.emit(event)
}
