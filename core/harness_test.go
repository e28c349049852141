package core

import (
	"bytes"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// world is an engine under test, polled by the test itself.
type world struct {
	t        testing.TB
	e        *Engine
	driver   Driver
	released map[uint64]int
	written  uint64 // owners made
	fds      int
}

// mode is a kind of driver: epoll, or else io_uring with these options.
type mode struct {
	epoll bool
	UringOptions
}

// modes are the drivers that every test of behaviour runs on.
var modes = map[string]mode{
	"ring":    {UringOptions: UringOptions{SQPollCPU: -1}},
	"tiny SQ": {UringOptions: UringOptions{Entries: 2, CQEntries: 4, SQPollCPU: -1}},
	"SQPOLL":  {UringOptions: UringOptions{SQPoll: true, SQPollCPU: -1}},
	"epoll":   {epoll: true},
}

// everyMode runs a test on every kind of driver.
func everyMode(t *testing.T, test func(w *world)) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) { test(newWorld(t, mode)) })
	}
}

// bothDrivers runs a test on both drivers with their default options.
func bothDrivers(t *testing.T, test func(t *testing.T, w *world)) {
	for _, name := range []string{"ring", "epoll"} {
		t.Run(name, func(t *testing.T) { test(t, newWorld(t, modes[name])) })
	}
}

func newWorld(t testing.TB, mode mode) *world {
	t.Helper()
	fds := openFDs(t)
	return worldOf(t, mode.open(t), fds)
}

func (m mode) open(t testing.TB) Driver {
	t.Helper()
	var driver Driver
	var err error
	if m.epoll {
		driver, err = NewEpollDriver(EpollOptions{Buffers: m.Buffers, BufferSize: m.BufferSize})
	} else {
		driver, err = NewUringDriver(m.UringOptions)
	}
	if err != nil {
		t.Fatal(err)
	}
	return driver
}

// worldOf makes an engine that is closed, and looked at for leaks, after the test.
// Its thread is the test's until then.
func worldOf(t testing.TB, driver Driver, fds int) *world {
	runtime.LockOSThread()
	w := &world{t: t, driver: driver, released: map[uint64]int{}, fds: fds}
	engine, err := NewEngine(driver, Options{Release: func(owner uint64) { w.released[owner]++ }})
	if err != nil {
		t.Fatal(err)
	}
	w.e = engine
	t.Cleanup(w.close)
	return w
}

func (w *world) close() {
	t := w.t
	defer runtime.UnlockOSThread()
	if err := w.e.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	s := w.e.Stats()
	if s.Conns+s.Listeners+s.Watches+s.Operations+s.OwnersOut+s.Driver.BuffersOut != 0 && !t.Failed() {
		t.Errorf("left over: %d connections, %d listeners, %d watches, %d operations, %d owners, %d buffers",
			s.Conns, s.Listeners, s.Watches, s.Operations, s.OwnersOut, s.Driver.BuffersOut)
	}
	for owner := uint64(1); owner <= w.written; owner++ {
		if w.released[owner] != 1 {
			t.Errorf("owner %d was released %d times", owner, w.released[owner])
		}
	}
	if fds := openFDs(t); fds > w.fds && w.fds >= 0 {
		t.Errorf("%d file descriptors before, %d after", w.fds, fds)
	}
}

// openFDs counts the process's descriptors.
func openFDs(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// until polls until done holds.
func (w *world) until(what string, done func() bool) {
	w.t.Helper()
	end := time.Now().Add(patience)
	for !done() {
		if time.Now().After(end) {
			w.t.Fatalf("never: %s", what)
		}
		w.poll(int64(10 * time.Millisecond))
	}
}

func (w *world) poll(timeoutNS int64) {
	w.t.Helper()
	if err := w.e.Poll(timeoutNS); err != nil && err != syscall.EINTR {
		w.t.Fatal(err)
	}
}

// quiet polls often enough for everything that is under way by itself to happen.
func (w *world) quiet() {
	w.t.Helper()
	for range 5 {
		w.poll(int64(2 * time.Millisecond))
	}
}

// write queues p under an owner of its own.
func (w *world) write(c *Conn, p []byte) {
	w.written++
	c.WriteOwned(p, w.written)
}

// recorder is a handler that remembers, and checks that calls make sense.
type recorder struct {
	t       testing.TB
	got     bytes.Buffer
	size    int // bytes received; got may be left empty
	eof     bool
	keep    bool // the connection open after the peer's end
	closed  bool
	err     *OpError
	backlog []int // queued, at each call of Backlog
	sent    int   // bytes, of all calls of Backlog
	echo    bool
	discard bool
	on      func(c *Conn) // after each Received
}

var _ Handler = (*recorder)(nil)

func (r *recorder) Received(c *Conn, p []byte) {
	if r.closed || r.eof {
		r.t.Error("bytes after the end")
	}
	r.size += len(p)
	if !r.discard {
		r.got.Write(p)
	}
	if r.echo {
		c.Write(p)
	}
	if r.on != nil {
		r.on(c)
	}
}

func (r *recorder) ReceivedEOF(*Conn) bool {
	if r.closed || r.eof {
		r.t.Error("end of file after the end")
	}
	r.eof = true
	return r.keep
}

func (r *recorder) Backlog(c *Conn, queued, sent int) {
	if r.closed || queued != c.Queued() {
		r.t.Errorf("backlog of %d, queued %d, closed %v", queued, c.Queued(), r.closed)
	}
	r.backlog = append(r.backlog, queued)
	r.sent += sent
}

func (r *recorder) Closed(c *Conn, err *OpError) {
	if r.closed {
		r.t.Error("closed twice")
	}
	if c.Queued() != 0 {
		r.t.Errorf("closed with %d bytes queued", c.Queued())
	}
	r.closed, r.err = true, err
}

// conn makes a connected pair of TCP sockets: ours is a connection of the engine
// that receives, the other is the peer's, blocking.
func (w *world) conn() (*Conn, *recorder, int) {
	w.t.Helper()
	ours, peer := tcpPair(w.t)
	r := &recorder{t: w.t, keep: true}
	c, err := w.e.Adopt(ours, r)
	if err != nil {
		w.t.Fatal(err)
	}
	c.ownsFD = true
	c.Resume()
	return c, r, peer
}

// tcpPair answers a non-blocking and a blocking socket, connected. The blocking one
// is closed after the test, if it is not before.
func tcpPair(t testing.TB) (ours, peer int) {
	t.Helper()
	listener, at := tcpListener(t)
	defer CloseDescriptor(listener)
	peer = peerOf(t, at)
	ours, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	return ours, peer
}

// tcpListener listens on a free port of the loopback interface.
func tcpListener(t testing.TB) (fd int, at unix.Sockaddr) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 4096); err != nil {
		t.Fatal(err)
	}
	at, err = unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, at
}

// peerOf connects a blocking socket.
func peerOf(t testing.TB, at unix.Sockaddr) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, at); err != nil {
		t.Fatal(err)
	}
	// A test that goes wrong must not hang in a peer.
	limit := unix.NsecToTimeval(int64(patience))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit)
	return fd
}

// mustWrite writes all of p to a blocking socket.
func mustWrite(t testing.TB, fd int, p []byte) {
	t.Helper()
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err != nil {
			t.Errorf("peer: write: %v", err)
			return
		}
		p = p[n:]
	}
}

// mustRead reads n bytes, or fewer if the stream ends before.
func mustRead(t testing.TB, fd, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	got := 0
	for got < n {
		m, err := unix.Read(fd, p[got:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Errorf("peer: read: %v", err)
			break
		}
		if m == 0 {
			break
		}
		got += m
	}
	return p[:got]
}

// pattern is n bytes of which every 8 differ from every other 8 nearby.
func pattern(seed, n int) []byte {
	p := make([]byte, n)
	state := uint64(seed)*0x9e3779b97f4a7c15 + 1
	for i := range p {
		if i%8 == 0 {
			state ^= state << 13
			state ^= state >> 7
			state ^= state << 17
		}
		p[i] = byte(state >> (8 * (i % 8)))
	}
	return p
}

// reset closes a socket so that its peer gets ECONNRESET.
func reset(t testing.TB, fd int) {
	t.Helper()
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		t.Fatal(err)
	}
	CloseDescriptor(fd)
}
