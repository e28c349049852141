package core

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"kloop/uring"
)

// mailbox is a datagram handler that remembers, and checks that calls make sense.
type mailbox struct {
	t      testing.TB
	got    [][]byte
	from   [][]byte
	failed []*OpError
	left   int // datagrams that left the queue
	bytes  int
	closed bool
	on     func(d *Datagram, p, from []byte) // after each datagram
	onSent func(d *Datagram)                 // after each Sent
}

var _ DatagramHandler = (*mailbox)(nil)

func (m *mailbox) ReceivedFrom(d *Datagram, p, from []byte) {
	if m.closed {
		m.t.Error("a datagram after the end")
	}
	m.got = append(m.got, bytes.Clone(p))
	m.from = append(m.from, bytes.Clone(from))
	if m.on != nil {
		m.on(d, p, from)
	}
}

func (m *mailbox) Failed(_ *Datagram, err *OpError) {
	if m.closed {
		m.t.Error("an error after the end")
	}
	m.failed = append(m.failed, err)
}

func (m *mailbox) Sent(d *Datagram, datagrams, bytes int) {
	m.left += datagrams
	m.bytes += bytes
	if m.onSent != nil {
		m.onSent(d)
	}
}

func (m *mailbox) DatagramClosed(d *Datagram) {
	if m.closed || d.queue.count() != 0 {
		m.t.Errorf("closed before: %v, %d datagrams queued", m.closed, d.queue.count())
	}
	m.closed = true
}

// endpoint is a receiving UDP socket of the engine, and its address.
func (w *world) endpoint() (*Datagram, *mailbox, unix.Sockaddr) {
	w.t.Helper()
	fd, at := datagramSocket(w.t, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	d, m := w.adoptDatagram(fd)
	return d, m, at
}

func (w *world) adoptDatagram(fd int) (*Datagram, *mailbox) {
	w.t.Helper()
	m := &mailbox{t: w.t}
	d, err := w.e.AdoptDatagram(fd, m)
	if err != nil {
		w.t.Fatal(err)
	}
	d.ownsFD = true
	d.Resume()
	return d, m
}

// datagramSocket makes a non-blocking socket bound to at.
func datagramSocket(t testing.TB, at unix.Sockaddr) (fd int, bound unix.Sockaddr) {
	t.Helper()
	family := unix.AF_INET
	if _, isUnix := at.(*unix.SockaddrUnix); isUnix {
		family = unix.AF_UNIX
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, at); err != nil {
		t.Fatal(err)
	}
	if bound, err = unix.Getsockname(fd); err != nil {
		t.Fatal(err)
	}
	return fd, bound
}

// udpPeer is a socket that no engine knows.
func udpPeer(t testing.TB) (fd int, at unix.Sockaddr) {
	t.Helper()
	return datagramSocket(t, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
}

func rawOf(at unix.Sockaddr) []byte { return rawSockaddr(addrPortOf(at), 0) }

func mustSendTo(t testing.TB, fd int, p []byte, at unix.Sockaddr) {
	t.Helper()
	if err := unix.Sendto(fd, p, 0, at); err != nil {
		t.Fatal(err)
	}
}

// takeDatagrams reads what there is.
func takeDatagrams(t testing.TB, fd int) (got [][]byte) {
	t.Helper()
	p := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, p, 0)
		if err == unix.EAGAIN {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, bytes.Clone(p[:n]))
	}
}

func TestDatagramsAreEchoed(t *testing.T) {
	everyMode(t, func(w *world) {
		d, m, at := w.endpoint()
		m.on = func(d *Datagram, p, from []byte) {
			if err := d.SendTo(p, from); err != nil {
				w.t.Error(err)
			}
		}
		const peers, each = 5, 40
		var want int
		for i := range peers {
			fd, peerAt := udpPeer(w.t)
			defer CloseDescriptor(fd)
			var sent [][]byte
			for j := range each {
				p := pattern(i*each+j, j*j) // the first is empty
				sent = append(sent, p)
				mustSendTo(w.t, fd, p, at)
				want++
				w.until("it arrives", func() bool { return len(m.got) == want })
				if got := m.from[want-1]; !bytes.Equal(got, rawOf(peerAt)) {
					w.t.Fatalf("from % x, want % x", got, rawOf(peerAt))
				}
			}
			if got := takeDatagrams(w.t, fd); !slices.EqualFunc(got, sent, bytes.Equal) {
				w.t.Errorf("peer %d got %d datagrams back, or other ones", i, len(got))
			}
		}
		d.Close()
		w.until("it is closed", func() bool { return m.closed })
		if err := d.SendTo([]byte{1}, rawOf(at)); !errors.Is(err, ErrClosed) {
			w.t.Errorf("SendTo after the end: %v", err)
		}
	})
}

// TestDatagramsOutnumberBuffers leaves more in the socket than there are buffers.
func TestDatagramsOutnumberBuffers(t *testing.T) {
	everyMode(t, func(w *world) {
		d, m, at := w.endpoint()
		w.poll(0)
		fd, _ := udpPeer(w.t)
		defer CloseDescriptor(fd)
		const rounds, burst = 20, 90 // what the default receive buffer holds
		want := 0
		for range rounds {
			for i := range burst {
				mustSendTo(w.t, fd, []byte{byte(i)}, at)
			}
			want += burst
			w.e.Flush()
			for range burst { // no buffer is given back meanwhile
				if err := w.driver.Wait(0); err != nil && !isRetry(err) {
					w.t.Fatal(err)
				}
			}
			w.until("they arrive", func() bool { return len(m.got) == want })
		}
		for i, p := range m.got {
			if len(p) != 1 || p[0] != byte(i%burst) {
				w.t.Fatalf("datagram %d: % x", i, p)
			}
		}
		// A tiny completion queue is full before the buffers are used up; the SQPOLL thread
		// may be so slow that they never are. With epoll a receive waits for a buffer.
		if s := w.e.Stats(); s.NoBufs == 0 && s.Rearms == 0 && w.driver.Name() == "io_uring" && w.driver.Silent() {
			w.t.Error("nothing ran out: the test shows nothing")
		}
		d.Abort()
		w.until("it is closed", func() bool { return m.closed })
	})
}

func TestDatagramTooLarge(t *testing.T) {
	everyMode(t, func(w *world) {
		d, m, at := w.endpoint()
		if err := d.SendTo(make([]byte, 70000), rawOf(at)); !errors.Is(err, syscall.EMSGSIZE) {
			w.t.Errorf("70000 bytes: %v", err)
		}
		if err := d.SendTo([]byte{1}, make([]byte, uring.AddressRoom+1)); !errors.Is(err, syscall.EINVAL) {
			w.t.Errorf("an address too long: %v", err)
		}
		// It comes to nothing, and the next one goes through.
		if err := d.SendTo([]byte{1}, rawOf(at)); err != nil {
			w.t.Error(err)
		}
		w.until("it arrives", func() bool { return len(m.got) == 1 })
		d.Close()
		w.until("it is closed", func() bool { return m.closed })
	})
}

// TestDatagramRefused sends to a port where nobody listens: receiving ends with the
// error, and goes on.
func TestDatagramRefused(t *testing.T) {
	everyMode(t, func(w *world) {
		d, m, at := w.endpoint()
		gone, goneAt := udpPeer(w.t)
		CloseDescriptor(gone)
		if err := unix.Connect(d.fd, goneAt); err != nil {
			w.t.Fatal(err)
		}
		for n := range 3 {
			w.poll(0)
			if err := d.SendTo([]byte{1}, nil); err != nil {
				w.t.Fatal(err)
			}
			w.until("it is told", func() bool { return len(m.failed) == n+1 })
			if m.failed[n].Op != "read" || m.failed[n].Err != syscall.ECONNREFUSED {
				w.t.Errorf("%v", m.failed[n])
			}
		}
		peer, _ := datagramSocket(w.t, goneAt)
		defer CloseDescriptor(peer)
		mustSendTo(w.t, peer, []byte("here"), at)
		w.until("a datagram arrives", func() bool { return len(m.got) == 1 })
		d.Close()
		w.until("it is closed", func() bool { return m.closed })
	})
}

func TestDatagramPause(t *testing.T) {
	everyMode(t, func(w *world) {
		d, m, at := w.endpoint()
		w.poll(0)
		d.Pause()
		w.until("the receive is over", func() bool { return d.receive == receiveIdle })
		fd, _ := udpPeer(w.t)
		defer CloseDescriptor(fd)
		mustSendTo(w.t, fd, []byte("later"), at)
		w.quiet()
		if len(m.got) != 0 {
			w.t.Error("a datagram came while paused")
		}
		d.Resume()
		w.until("it comes", func() bool { return len(m.got) == 1 })
		d.Abort()
		w.until("it is closed", func() bool { return m.closed })
	})
}

// blocked is an endpoint connected to a Unix socket that is full: the kernel takes no more.
// It answers how many it took.
func (w *world) blocked() (d *Datagram, m *mailbox, peer, taken int) {
	w.t.Helper()
	dir := w.t.TempDir()
	peer, at := datagramSocket(w.t, &unix.SockaddrUnix{Name: dir + "/peer"})
	fd, _ := datagramSocket(w.t, &unix.SockaddrUnix{Name: dir + "/ours"})
	if err := unix.Connect(fd, at); err != nil {
		w.t.Fatal(err)
	}
	d, m = w.adoptDatagram(fd)
	for d.queue.count() == 0 {
		if err := d.SendTo(numbered(taken), nil); err != nil {
			w.t.Fatal(err)
		}
		taken++
	}
	return d, m, peer, taken - 1
}

func numbered(n int) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }

// inOrder checks that these are the datagrams from number first.
func (w *world) inOrder(got [][]byte, first int) {
	w.t.Helper()
	for i, p := range got {
		if !bytes.Equal(p, numbered(first+i)) {
			w.t.Fatalf("datagram %d is % x", first+i, p)
		}
	}
}

func TestRefusedDatagramsStayInOrder(t *testing.T) {
	everyMode(t, func(w *world) {
		d, m, peer, n := w.blocked()
		defer CloseDescriptor(peer)
		n++
		const more = 200
		for range more {
			if err := d.SendTo(numbered(n), nil); err != nil {
				w.t.Fatal(err)
			}
			n++
			w.written++
			d.QueueOwned(numbered(n), nil, w.written)
			n++
		}
		queued := d.queue.count()
		d.Close() // sends them all
		var got [][]byte
		w.until("all are sent", func() bool {
			got = append(got, takeDatagrams(w.t, peer)...)
			return m.closed
		})
		got = append(got, takeDatagrams(w.t, peer)...)
		w.inOrder(got, 0)
		if len(got) != n || m.left != queued || m.bytes != 4*queued || len(m.failed) != 0 {
			w.t.Errorf("the peer got %d of %d; %d of %d left the queue with %d bytes; %v",
				len(got), n, m.left, queued, m.bytes, m.failed)
		}
	})
}

// TestFullReceiverIsWaitedFor sends to full receivers from an unconnected Unix socket, whose
// poll always says that there is room.
func TestFullReceiverIsWaitedFor(t *testing.T) {
	everyMode(t, func(w *world) {
		dir := w.t.TempDir()
		fd, _ := datagramSocket(w.t, &unix.SockaddrUnix{Name: dir + "/ours"})
		d, m := w.adoptDatagram(fd)
		var peers [2]int
		var sent [2]int
		for i := range peers {
			name := fmt.Sprintf("%s/peer%d", dir, i)
			peers[i], _ = datagramSocket(w.t, &unix.SockaddrUnix{Name: name})
			defer CloseDescriptor(peers[i])
			addr, err := uring.SockaddrUnix(name)
			if err != nil {
				w.t.Fatal(err)
			}
			for before := d.queue.count(); d.queue.count() < before+30; sent[i]++ {
				if err := d.SendTo(numbered(sent[i]), addr.Bytes()); err != nil {
					w.t.Fatal(err)
				}
			}
		}
		w.until("somebody waits at the receiver", func() bool { return d.scout >= 0 })
		before := w.e.Stats().Driver.Submitted
		w.quiet()
		if got := w.e.Stats().Driver.Submitted - before; got > 5 {
			w.t.Errorf("%d operations while there is no room", got)
		}
		for i, peer := range peers {
			var got [][]byte
			w.until("all has arrived", func() bool {
				got = append(got, takeDatagrams(w.t, peer)...)
				return len(got) == sent[i]
			})
			w.inOrder(got, 0)
		}
		d.Close()
		w.until("it is closed", func() bool { return m.closed })
	})
}

// TestFullReceiverThatGoes ends a wait by its end, and by ours.
func TestFullReceiverThatGoes(t *testing.T) {
	everyMode(t, func(w *world) {
		for _, abort := range []bool{false, true} {
			dir := w.t.TempDir()
			fd, _ := datagramSocket(w.t, &unix.SockaddrUnix{Name: dir + "/ours"})
			d, m := w.adoptDatagram(fd)
			peer, _ := datagramSocket(w.t, &unix.SockaddrUnix{Name: dir + "/peer"})
			addr, err := uring.SockaddrUnix(dir + "/peer")
			if err != nil {
				w.t.Fatal(err)
			}
			for d.queue.count() < 3 {
				if err := d.SendTo([]byte{1}, addr.Bytes()); err != nil {
					w.t.Fatal(err)
				}
			}
			w.until("somebody waits at the receiver", func() bool { return d.scout >= 0 })
			if abort {
				d.Abort()
				CloseDescriptor(peer)
			} else {
				CloseDescriptor(peer)
				w.until("all have failed", func() bool { return len(m.failed) == 3 && m.left == 3 })
				d.Close()
			}
			w.until("it is closed", func() bool { return m.closed })
		}
	})
}

func TestAbortDropsQueuedDatagrams(t *testing.T) {
	everyMode(t, func(w *world) {
		d, m, peer, taken := w.blocked()
		defer CloseDescriptor(peer)
		w.written++
		d.QueueOwned(numbered(taken), nil, w.written)
		w.quiet()
		d.Abort()
		w.written++
		d.QueueOwned(numbered(taken), nil, w.written) // is let go
		w.until("it is closed", func() bool { return m.closed })
		if got := takeDatagrams(w.t, peer); len(got) != taken {
			w.t.Errorf("the peer got %d datagrams, %d were taken", len(got), taken)
		}
	})
}

// TestQueuedDatagramThatFails has the peer go while datagrams wait for it.
func TestQueuedDatagramThatFails(t *testing.T) {
	everyMode(t, func(w *world) {
		d, m, peer, _ := w.blocked()
		if err := d.SendTo([]byte{1}, nil); err != nil {
			w.t.Fatal(err)
		}
		w.quiet()
		CloseDescriptor(peer)
		w.until("both have failed", func() bool { return m.left == 2 })
		for _, failed := range m.failed {
			if failed.Op != "write" || failed.Err != syscall.ECONNREFUSED && failed.Err != syscall.ECONNRESET &&
				failed.Err != syscall.ENOTCONN {
				w.t.Errorf("%v", failed)
			}
		}
		if len(m.failed) < 2 || m.closed {
			w.t.Errorf("%d failures, closed %v", len(m.failed), m.closed)
		}
		d.Close()
		w.until("it is closed", func() bool { return m.closed })
	})
}

func TestThreadChangeWithDatagrams(t *testing.T) {
	everyMode(t, func(w *world) {
		d, m, peer, _ := w.blocked()
		defer CloseDescriptor(peer)
		ours, err := unix.Getsockname(d.fd)
		if err != nil {
			w.t.Fatal(err)
		}
		w.inThread(func() {
			w.quiet()
			w.e.Leave()
			if d.queue.count() != 1 {
				w.t.Errorf("after Leave: %d queued", d.queue.count())
			}
		})
		var got [][]byte
		for round := range 5 {
			mustSendTo(w.t, peer, numbered(round), ours) // nobody polls
			w.inThread(func() {
				w.until("it arrives", func() bool { return len(m.got) == round+1 })
				got = append(got, takeDatagrams(w.t, peer)...)
				w.until("the queue is empty", func() bool { return d.queue.count() == 0 })
				w.e.Leave()
			})
		}
		w.inOrder(m.got, 0)
		w.inOrder(append(got, takeDatagrams(w.t, peer)...), 0)
		w.inThread(func() {
			d.Close()
			w.until("it is closed", func() bool { return m.closed })
		})
	})
}

// TestDatagramsOutliveTheirRing changes the thread while datagrams are in buffers.
func TestDatagramsOutliveTheirRing(t *testing.T) {
	everyMode(t, func(w *world) {
		d, m, at := w.endpoint()
		fd, _ := udpPeer(w.t)
		defer CloseDescriptor(fd)
		w.inThread(func() { w.poll(0) })
		for n := range 20 {
			w.inThread(func() {
				w.e.Flush()
				mustSendTo(w.t, fd, numbered(n), at)
				if err := w.driver.Wait(int64(patience)); err != nil {
					w.t.Error(err)
				}
			})
			w.inThread(func() { w.until("it arrives", func() bool { return len(m.got) == n+1 }) })
		}
		w.inOrder(m.got, 0)
		w.inThread(func() {
			d.Close()
			w.until("it is closed", func() bool { return m.closed })
		})
	})
}

func TestCloseOfEngineWithDatagrams(t *testing.T) {
	everyMode(t, func(w *world) {
		d, m, peer, taken := w.blocked()
		defer CloseDescriptor(peer)
		w.written++
		d.QueueOwned(numbered(taken), nil, w.written)
		_, other, _ := w.endpoint()
		w.quiet()
		if err := w.e.Close(); err != nil {
			w.t.Error(err)
		}
		if !m.closed || !other.closed {
			w.t.Error("an endpoint was not told")
		}
	})
}

func TestEndOfDatagramsHasHappened(t *testing.T) {
	everyMode(t, func(w *world) {
		for range 20 {
			d, m, at := w.endpoint()
			fd, _ := udpPeer(w.t)
			defer CloseDescriptor(fd)
			w.poll(0)
			mustSendTo(w.t, fd, []byte{1}, at)
			w.until("it arrives", func() bool { return len(m.got) == 1 })
			mustSendTo(w.t, fd, []byte{2}, at)
			d.End()
			if !m.closed {
				w.t.Fatal("not closed")
			}
			again, _ := datagramSocket(w.t, at) // the address is free
			mustSendTo(w.t, fd, []byte{3}, at)
			if got := takeDatagrams(w.t, again); len(got) != 1 || got[0][0] != 3 {
				w.t.Errorf("the next socket got %v", got)
			}
			CloseDescriptor(again)
			d.End()
		}
		w.quiet()
		d, m, peer, taken := w.blocked()
		defer CloseDescriptor(peer)
		w.quiet()
		d.End()
		if got := takeDatagrams(w.t, peer); !m.closed || len(got) != taken {
			w.t.Errorf("closed %v; the peer got %d datagrams, %d were taken", m.closed, len(got), taken)
		}
	})
}

// scriptDatagram makes an engine on a scripted driver, with one endpoint that receives.
func scriptDatagram(t *testing.T) (*world, *scripted, *Datagram, *mailbox) {
	w, d, c, _ := script(t)
	c.Abort()
	m := &mailbox{t: t}
	endpoint, err := w.e.AdoptDatagram(-1, m)
	if err != nil {
		t.Fatal(err)
	}
	endpoint.Resume()
	w.poll(0)
	if got := d.take(OpReceiveDatagrams); len(got) != 1 {
		t.Fatalf("%d receives armed", len(got))
	}
	return w, d, endpoint, m
}

func (d *scripted) datagramDone(kind OpKind, endpoint *Datagram, res int32) {
	d.done = append(d.done, Completion{Token: makeToken(kind, endpoint.id), Res: res})
}

func TestDatagramReceiveIsArmedAgain(t *testing.T) {
	for _, errno := range []syscall.Errno{
		syscall.ENOBUFS, syscall.EINTR, syscall.EAGAIN, syscall.ECANCELED, syscall.ECONNREFUSED, syscall.EHOSTUNREACH,
	} {
		t.Run(errno.Error(), func(t *testing.T) {
			w, d, endpoint, m := scriptDatagram(t)
			d.datagramDone(OpReceiveDatagrams, endpoint, -int32(errno))
			w.poll(0)
			w.poll(0)
			if got := d.take(OpReceiveDatagrams); len(got) != 1 {
				t.Errorf("%d receives armed again, not 1", len(got))
			}
			told := errno == syscall.ECONNREFUSED || errno == syscall.EHOSTUNREACH
			if (len(m.failed) == 1) != told || m.closed {
				t.Errorf("told %v, closed %v", m.failed, m.closed)
			}
		})
	}
}

func TestDatagramCancelThatMisses(t *testing.T) {
	w, d, endpoint, m := scriptDatagram(t)
	endpoint.Close()
	for try := range 3 {
		w.poll(0)
		if got := d.take(OpCancel); len(got) != 1 || got[0].Target != makeToken(OpReceiveDatagrams, endpoint.id) {
			t.Fatalf("try %d: %v", try, got)
		}
		d.datagramDone(OpCancel, endpoint, -int32(syscall.EALREADY))
		w.poll(0)
	}
	d.datagramDone(OpReceiveDatagrams, endpoint, -int32(syscall.ECANCELED))
	w.poll(0)
	if !m.closed {
		t.Error("not closed")
	}
}

func TestQueuedDatagramWaitsForRoom(t *testing.T) {
	w, d, endpoint, m := scriptDatagram(t)
	for n := range 3 {
		if err := endpoint.SendTo(numbered(n), []byte{9}); err != nil {
			t.Fatal(err)
		}
	}
	// Neither a poll that was lost nor one that found no room after all ends the wait.
	for _, res := range []int32{-int32(syscall.ECANCELED), unix.POLLOUT} {
		w.poll(0)
		if got := d.take(OpPoll); len(got) != 1 || got[0].Events != unix.POLLOUT || m.left != 0 {
			t.Fatalf("%v, %d left the queue", got, m.left)
		}
		d.datagramDone(OpPoll, endpoint, res)
		w.poll(0)
	}
	w.poll(0)
	d.sends = []error{nil, syscall.EHOSTUNREACH}
	d.datagramDone(OpPoll, endpoint, unix.POLLOUT)
	w.poll(0)
	if m.left != 2 || len(m.failed) != 1 || m.failed[0].Err != syscall.EHOSTUNREACH || endpoint.queue.count() != 1 {
		t.Errorf("%d left the queue, %d are in it, %v", m.left, endpoint.queue.count(), m.failed)
	}
}

func TestEndpointThatEndsInSentIsToldNoError(t *testing.T) {
	w, d, endpoint, m := scriptDatagram(t)
	m.onSent = func(*Datagram) { endpoint.End() }
	if err := endpoint.SendTo(numbered(1), []byte{9}); err != nil {
		t.Fatal(err)
	}
	w.poll(0)
	d.sends = []error{syscall.EHOSTUNREACH}
	d.datagramDone(OpPoll, endpoint, unix.POLLOUT)
	w.poll(0)
	if !m.closed || m.left != 1 || len(m.failed) != 0 {
		t.Errorf("closed %v, %d left the queue, %v", m.closed, m.left, m.failed)
	}
}

func TestDatagramsWithoutMemory(t *testing.T) {
	w, d, _, _ := scriptDatagram(t)
	d.refused = syscall.ENOMEM
	if _, err := w.e.AdoptDatagram(-1, &mailbox{t: t}); !errors.Is(err, syscall.ENOMEM) {
		t.Errorf("AdoptDatagram: %v", err)
	}
}

func TestDatagramQueue(t *testing.T) {
	var q datagramQueue
	in, out := 0, 0
	for round := range 1000 {
		for range round % 7 {
			q.push(datagram{p: fmt.Append(nil, in)})
			in++
		}
		for range round % 5 {
			if q.count() == 0 {
				break
			}
			if got := q.pop(); string(got.p) != fmt.Sprint(out) {
				t.Fatalf("%s, want %d", got.p, out)
			}
			out++
		}
		if q.count() != in-out {
			t.Fatalf("%d in the queue, want %d", q.count(), in-out)
		}
	}
}
