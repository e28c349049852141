package core

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kloop/ktls"
)

// kernelSuites are all that the kernel can have.
var kernelSuites = []struct {
	id      uint16
	version ktls.Version
}{{0x1301, ktls.TLS13}, {0x1302, ktls.TLS13}, {0x1303, ktls.TLS13}, {0xC02F, ktls.TLS12}, {0xC030, ktls.TLS12}, {0xCCA8, ktls.TLS12}}

// needKernelTLS skips a test where the kernel has no TLS, but not in the guest.
func needKernelTLS(t *testing.T) {
	t.Helper()
	for _, f := range []*ktls.Feature{ktls.FeatureULP, ktls.FeatureRekey} {
		if err := ktls.Have(f); err != nil {
			if os.Getenv("GUEST_RUN") != "" {
				t.Fatal(err)
			}
			t.Skipf("%v: `make test-ktls` runs this on a kernel that has it", err)
		}
	}
}

// tlsStat reads the kernel's counters.
func tlsStat(t testing.TB) ktls.KernelStat {
	t.Helper()
	stat, err := ktls.ReadKernelStat()
	if err != nil {
		t.Fatal(err)
	}
	return stat
}

// inKernel starts records and polls until the kernel has both directions.
func (w *world) inKernel(c *Conn, o RecordOptions, received []byte) {
	w.t.Helper()
	o.Kernel = KernelOnly
	start(w.t, c, o, received)
	w.until("the kernel has both directions", func() bool {
		o := c.RecordsOffload()
		return o == RecordsOffload{KernelSeals: true, KernelOpens: true}
	})
}

// TestKernelRecordsBothWays: an echo of every size in every suite and role, behind early data,
// really by the kernel.
func TestKernelRecordsBothWays(t *testing.T) {
	needKernelTLS(t)
	for _, s := range kernelSuites {
		for _, client := range []bool{false, true} {
			everyMode(t, func(w *world) {
				c, r, p, o := w.recordsFrom(s.id, s.version, client, 0)
				defer CloseDescriptor(p.fd)
				if err := ktls.KernelCan(o.Sealer); err != nil { // whose probes count too
					w.t.Fatal(err)
				}
				before := tlsStat(w.t)
				r.echo = true
				want := pattern(1, 30_000)
				early := p.seal(ktls.TypeData, want)
				heard := &recordListener{}
				o.Handler = heard
				w.inKernel(c, o, early)
				if len(heard.moved) == 0 || heard.moved[len(heard.moved)-1] != c.RecordsOffload() {
					w.t.Errorf("moved: %v", heard.moved)
				}
				w.echoRecords(c, r, p, nil, want, 1, 2, 1000, 16384, 16385, 70_000, 1<<20)
				after := tlsStat(w.t)
				for name, more := range map[string]uint64{ktls.StatTXSoftware: 1, ktls.StatRXSoftware: 1, ktls.StatDecryptError: 0} {
					if after[name] != before[name]+more {
						w.t.Errorf("%s: %d, was %d", name, after[name], before[name])
					}
				}
			})
		}
	}
}

// TestKernelRecordsInPieces: the kernel goes on at the end of a record that came in part, at
// whatever place.
func TestKernelRecordsInPieces(t *testing.T) {
	needKernelTLS(t)
	bothDrivers(t, func(t *testing.T, w *world) {
		for _, cut := range []int{1, 4, 5, 6, 60, 130} {
			for _, version := range recordSuites {
				c, r, p, o := w.records(version.id, version.version)
				sealed := append(p.seal(ktls.TypeData, pattern(1, 100)), p.seal(ktls.TypeData, pattern(2, 300))...)
				sealed = append(sealed, p.seal(ktls.TypeData, pattern(3, 40_000))...)
				o.Kernel = KernelOnly
				start(t, c, o, sealed[:cut])
				w.quiet()
				for i := cut; i < 140; i++ {
					mustWrite(t, p.fd, sealed[i:i+1])
					w.poll(0)
				}
				mustWrite(t, p.fd, sealed[140:])
				want := bytes.Join([][]byte{pattern(1, 100), pattern(2, 300), pattern(3, 40_000)}, nil)
				w.until("all has come", func() bool { return r.got.Len() == len(want) })
				if !bytes.Equal(r.got.Bytes(), want) || !c.RecordsOffload().KernelOpens {
					t.Errorf("cut at %d: other bytes than were sent, or %+v", cut, c.RecordsOffload())
				}
				CloseDescriptor(p.fd)
				c.Abort()
				w.until("closed", func() bool { return r.closed })
			}
		}
	})
}

// TestKernelRecordsUnderTraffic: the peer writes and never stops while the kernel takes over.
func TestKernelRecordsUnderTraffic(t *testing.T) {
	needKernelTLS(t)
	everyMode(t, func(w *world) {
		c, r, p, o := w.records(0x1301, ktls.TLS13)
		defer CloseDescriptor(p.fd)
		var sealed []byte
		for i := range 2000 {
			sealed = append(sealed, p.seal(ktls.TypeData, pattern(i, 1+i*7%1500))...)
		}
		o.Kernel = KernelOnly
		start(w.t, c, o, nil)
		go mustWrite(w.t, p.fd, sealed)
		want := 0
		for i := range 2000 {
			want += 1 + i*7%1500
		}
		w.until("all has come", func() bool { return r.got.Len() == want })
		for i, at := 0, 0; i < 2000; i++ {
			n := 1 + i*7%1500
			if !bytes.Equal(r.got.Bytes()[at:at+n], pattern(i, n)) {
				w.t.Fatalf("other bytes in record %d", i)
			}
			at += n
		}
		if !c.RecordsOffload().KernelOpens {
			w.t.Errorf("%+v", c.RecordsOffload())
		}
	})
}

// TestKernelRecordsBehindQueue: what is queued before goes as it is, and the kernel seals what
// comes behind; as long as it is not sent, Go does.
func TestKernelRecordsBehindQueue(t *testing.T) {
	needKernelTLS(t)
	for name, n := range map[string]int{"little": 5, "much": 8 << 20} {
		t.Run(name, func(t *testing.T) {
			everyMode(t, func(w *world) {
				c, _, p, o := w.records(0x1301, ktls.TLS13)
				defer CloseDescriptor(p.fd)
				heard := &recordListener{}
				o.Handler, o.Kernel = heard, KernelOnly
				c.Write(pattern(1, n))
				start(w.t, c, o, nil)
				if moved := c.RecordsOffload().KernelSeals; moved != (n == 5) {
					w.t.Errorf("the kernel seals: %v", moved)
				}
				w.poll(0)
				c.Write(pattern(2, 50_000))
				got := make(chan []byte, 2)
				go func() {
					got <- mustRead(w.t, p.fd, n)
					got <- p.readData(100_000)
				}()
				w.until("all is sent", func() bool { return c.Queued() == 0 && c.RecordsOffload().KernelSeals })
				c.Write(pattern(3, 50_000))
				w.until("all is sent", func() bool { return c.Queued() == 0 })
				if !bytes.Equal(<-got, pattern(1, n)) {
					w.t.Error("other bytes than were queued before")
				}
				if !bytes.Equal(<-got, append(pattern(2, 50_000), pattern(3, 50_000)...)) {
					w.t.Error("other bytes than were written")
				}
			})
		})
	}
}

// inBackgroundToo runs a test in every mode, with large sends by threads of the kernel's and without.
func inBackgroundToo(t *testing.T, test func(w *world, background int)) {
	for _, background := range []int{0, 50_000} {
		t.Run(fmt.Sprintf("background=%d", background), func(t *testing.T) {
			everyMode(t, func(w *world) { test(w, background) })
		})
	}
}

// TestKernelRecordsInBackground: a thread of io_uring's seals and sends what is large.
func TestKernelRecordsInBackground(t *testing.T) {
	needKernelTLS(t)
	workers := func() (n int) {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			// A thread may end meanwhile.
			if name, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/comm"); bytes.HasPrefix(name, []byte("iou-wrk")) {
				n++
			}
		}
		return n
	}
	w := newWorld(t, modes["ring"])
	c, r, p, o := w.records(0x1301, ktls.TLS13)
	defer CloseDescriptor(p.fd)
	o.Background, o.ZeroCopy, o.NoPadding = 50_000, true, true
	w.inKernel(c, o, nil)
	c.Write(pattern(1, 49_999))
	w.until("it is sent", func() bool { return c.Queued() == 0 })
	if n := workers(); n != 0 || len(r.backlog) != 0 {
		t.Errorf("%d workers for a small write, backlog %v", n, r.backlog)
	}
	c.Write(pattern(2, 50_000))
	got := make(chan []byte)
	go func() { got <- p.readData(99_999) }()
	w.until("it is sent", func() bool { return c.Queued() == 0 })
	if !bytes.Equal(<-got, append(pattern(1, 49_999), pattern(2, 50_000)...)) {
		t.Error("other bytes than were written")
	}
	if n := workers(); n == 0 || len(r.backlog) < 2 || r.backlog[0] != 50_000 || r.backlog[len(r.backlog)-1] != 0 {
		t.Errorf("%d workers for a large write, backlog %v", n, r.backlog)
	}
}

// TestKernelRecordsSlowReader: data, a KeyUpdate that the peer asks for meanwhile and
// close_notify keep their order while the socket is full.
func TestKernelRecordsSlowReader(t *testing.T) {
	needKernelTLS(t)
	inBackgroundToo(t, func(w *world, background int) {
		c, r, p, o := w.records(0x1301, ktls.TLS13)
		defer CloseDescriptor(p.fd)
		o.Background = background
		w.inKernel(c, o, nil)
		const size = 8 << 20
		w.write(c, pattern(1, size))
		w.until("a backlog", func() bool { return len(r.backlog) > 0 })
		for range 3 {
			update, err := p.sealer.KeyUpdate(nil, true)
			if err != nil {
				w.t.Fatal(err)
			}
			mustWrite(w.t, p.fd, append(update, p.seal(ktls.TypeData, []byte("x"))...))
		}
		w.until("the requests", func() bool { return r.got.Len() == 3 })
		c.Write(pattern(2, 100_000))
		c.Close()
		got := make(chan []byte)
		go func() { got <- p.readData(size + 100_000) }()
		w.until("closed", func() bool { return r.closed })
		if !bytes.Equal(<-got, append(pattern(1, size), pattern(2, 100_000)...)) {
			w.t.Error("other bytes than were written")
		}
		p.wantCloseNotify()
		if r.err != nil || r.backlog[len(r.backlog)-1] != 0 {
			w.t.Errorf("%v, backlog %v", r.err, r.backlog)
		}
	})
}

// TestKernelRecordsPause: what is paused is not received, and an abort drops a backlog.
func TestKernelRecordsPause(t *testing.T) {
	needKernelTLS(t)
	inBackgroundToo(t, func(w *world, background int) {
		c, r, p, o := w.records(0xC02F, ktls.TLS12)
		defer CloseDescriptor(p.fd)
		o.Background = background
		c.Pause()
		w.inKernel(c, o, nil)
		mustWrite(w.t, p.fd, p.seal(ktls.TypeData, pattern(1, 300_000)))
		w.quiet()
		if r.got.Len() > 0 {
			w.t.Error("data came though it is paused")
		}
		r.on = func(c *Conn) { c.Pause() }
		for r.got.Len() < 300_000 {
			had := r.got.Len()
			c.Resume()
			w.until("more", func() bool { return r.got.Len() > had })
		}
		if !bytes.Equal(r.got.Bytes(), pattern(1, 300_000)) {
			w.t.Error("other bytes than were sent")
		}
		w.write(c, pattern(1, 8<<20))
		w.until("a backlog", func() bool { return len(r.backlog) > 0 })
		c.Abort()
		w.until("closed", func() bool { return r.closed })
	})
}

// TestKernelRecordsNotPossible: Go goes on, and says why; what is the kernel's or nothing, is nothing.
func TestKernelRecordsNotPossible(t *testing.T) {
	bothDrivers(t, func(t *testing.T, w *world) {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer CloseDescriptor(pair[1])
		if err := unix.SetNonblock(pair[0], true); err != nil {
			t.Fatal(err)
		}
		other, _, tcp, o := w.records(0x1301, ktls.TLS13)
		CloseDescriptor(tcp.fd)
		other.Abort()
		r := &recorder{t: t, keep: true, echo: true}
		c, err := w.e.Adopt(pair[0], r)
		if err != nil {
			t.Fatal(err)
		}
		c.ownsFD = true
		c.Resume()
		p := &recordPeer{t: t, fd: pair[1], sealer: tcp.sealer, opener: tcp.opener}
		o.Kernel = KernelOnly
		var unsupported *ktls.UnsupportedError
		if err := c.StartRecords(o, nil); !errors.As(err, &unsupported) {
			t.Fatalf("%v", err)
		}
		o.Kernel = KernelIfPossible
		start(t, c, o, nil)
		if a := c.RecordsOffload(); a.KernelSeals || a.KernelOpens || !strings.Contains(a.Reason, "TCP") {
			t.Errorf("%+v", a)
		}
		mustWrite(t, p.fd, p.seal(ktls.TypeData, []byte("echo")))
		w.until("an echo", func() bool { return r.got.Len() == 4 && c.Queued() == 0 })
		if got := p.readData(4); string(got) != "echo" {
			t.Errorf("%q", got)
		}
	})
}

// TestKernelRecordsThreadChange: with what had been received on its way in another thread's
// ring while the kernel takes over, and with a backlog.
func TestKernelRecordsThreadChange(t *testing.T) {
	needKernelTLS(t)
	everyMode(t, func(w *world) {
		c, r, p, o := w.records(0x1301, ktls.TLS13)
		defer CloseDescriptor(p.fd)
		r.echo = true
		w.inThread(func() { w.poll(0) })
		want := pattern(2, 3<<20)
		sealed := p.seal(ktls.TypeData, want)
		mustWrite(w.t, p.fd, sealed[:10_000])
		w.inThread(func() {
			w.e.Flush()
			if err := w.driver.Wait(int64(patience)); err != nil {
				w.t.Error(err)
			}
			o.Kernel = KernelOnly
			start(w.t, c, o, nil)
			w.e.Leave()
		})
		go mustWrite(w.t, p.fd, sealed[10_000:])
		got := make(chan []byte)
		go func() { got <- p.readData(len(want)) }()
		for r.size < len(want) || c.Queued() > 0 {
			w.inThread(func() {
				w.e.Flush()
				if err := w.driver.Wait(int64(10 * time.Millisecond)); err != nil {
					w.t.Error(err)
				}
				// Completions are in the queue now; the next thread handles them.
				w.e.Leave()
			})
			w.inThread(func() {
				w.poll(0)
				w.e.Leave()
			})
		}
		if !bytes.Equal(r.got.Bytes(), want) || !bytes.Equal(<-got, want) {
			w.t.Error("other bytes than were sent")
		}
		if o := c.RecordsOffload(); !o.KernelOpens || !o.KernelSeals {
			w.t.Errorf("%+v", o)
		}
	})
}
