package core

import (
	"bytes"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// pipeEnd makes a pipe, of which one end, of that kind, is a connection that is resumed.
// The other end, which blocks, is the caller's to close.
func (w *world) pipeEnd(kind PipeKind) (*Conn, *recorder, int) {
	w.t.Helper()
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		w.t.Fatal(err)
	}
	ours, peer := ends[0], ends[1]
	if kind == PipeWriter {
		ours, peer = peer, ours
	}
	c, r := w.adoptPipe(ours, kind)
	return c, r, peer
}

// adoptPipe makes a connection that owns fd.
func (w *world) adoptPipe(fd int, kind PipeKind) (*Conn, *recorder) {
	w.t.Helper()
	if err := unix.SetNonblock(fd, true); err != nil {
		w.t.Fatal(err)
	}
	r := &recorder{t: w.t}
	c, err := w.e.AdoptPipe(fd, kind, r)
	if err != nil {
		w.t.Fatal(err)
	}
	c.ownsFD = true
	c.Resume()
	return c, r
}

func TestPipeIsReadToItsEnd(t *testing.T) {
	everyMode(t, func(w *world) {
		_, r, peer := w.pipeEnd(PipeReader)
		want := pattern(1, 3<<20)
		go func() {
			mustWrite(t, peer, want)
			CloseDescriptor(peer)
		}()
		w.until("it ends", func() bool { return r.closed })
		if !bytes.Equal(r.got.Bytes(), want) || !r.eof || r.err != nil {
			t.Errorf("%d bytes of %d, or other ones; end %v, error %v", r.got.Len(), len(want), r.eof, r.err)
		}
	})
}

// TestPipeReadOnce reads as on kernels without multishot reads.
func TestPipeReadOnce(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.pipeEnd(PipeReader)
		c.pollFirst = true
		want := pattern(2, 300_000)
		go func() {
			mustWrite(t, peer, want)
			CloseDescriptor(peer)
		}()
		w.until("it ends", func() bool { c.pollFirst = true; return r.closed })
		if !bytes.Equal(r.got.Bytes(), want) || !r.eof {
			t.Errorf("%d bytes of %d, or other ones; end %v", r.got.Len(), len(want), r.eof)
		}
	})
}

func TestEmptyPipeEnds(t *testing.T) {
	everyMode(t, func(w *world) {
		_, r, peer := w.pipeEnd(PipeReader)
		w.quiet()
		CloseDescriptor(peer)
		w.until("it ends", func() bool { return r.closed })
		if !r.eof || r.size != 0 {
			t.Errorf("end %v, %d bytes", r.eof, r.size)
		}
	})
}

// TestFIFOAwaitsItsFirstWriter: read(2) answers 0 until then, which is no end.
func TestFIFOAwaitsItsFirstWriter(t *testing.T) {
	everyMode(t, func(w *world) {
		path := filepath.Join(t.TempDir(), "fifo")
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, r := w.adoptPipe(fd, PipeReader)
		w.quiet()
		if r.eof {
			t.Fatal("an end before a beginning")
		}
		writer, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"one", "two"} {
			before := r.size
			mustWrite(t, writer, []byte(word))
			w.until(word, func() bool { return r.size > before })
		}
		CloseDescriptor(writer)
		w.until("it ends", func() bool { return r.closed })
		if r.got.String() != "onetwo" || !r.eof {
			t.Errorf("%q, end %v", r.got.String(), r.eof)
		}
	})
}

// TestFIFOThatIsWrittenToBeforeItsFirstEndIsSeen: the end was before the beginning.
func TestFIFOThatIsWrittenToBeforeItsFirstEndIsSeen(t *testing.T) {
	w, d, _, _ := script(t)
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseDescriptor(fd)
	r := &recorder{t: t, keep: true}
	c, err := w.e.AdoptPipe(fd, PipeReader, r)
	if err != nil {
		t.Fatal(err)
	}
	end := Completion{Token: makeToken(OpReceive, c.id)}
	for range 2 { // the second as if the thread had changed meanwhile
		d.done = append(d.done, end)
		w.poll(0)
		if r.eof {
			t.Fatal("an end before a beginning")
		}
	}
	writer, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, writer, []byte("x"))
	d.done = append(d.done, end)
	if w.poll(0); r.eof {
		t.Fatal("an end with bytes to read")
	}
	if _, err := unix.Read(fd, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	CloseDescriptor(writer)
	d.done = append(d.done, end)
	if w.poll(0); !r.eof {
		t.Error("no end")
	}
}

func TestPausedPipeIsNotRead(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.pipeEnd(PipeReader)
		defer CloseDescriptor(peer)
		mustWrite(t, peer, []byte("one"))
		w.until("one arrives", func() bool { return r.size == 3 })
		c.Pause()
		w.until("the read is over", func() bool { return c.receive == receiveIdle })
		mustWrite(t, peer, []byte("two"))
		w.quiet()
		if r.size != 3 {
			t.Errorf("paused, and got %q", r.got.String())
		}
		c.Resume()
		w.until("two arrives", func() bool { return r.size == 6 })
		c.Abort()
		w.until("it closes", func() bool { return r.closed })
	})
}

func TestSlowPipeReaderGetsEveryByte(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.pipeEnd(PipeWriter)
		defer CloseDescriptor(peer)
		var want []byte
		for i := range 500 {
			p := pattern(i, 1000+i)
			want = append(want, p...)
			if i%3 == 0 {
				c.Write(p)
			} else {
				w.write(c, p)
			}
		}
		big := pattern(7, 1<<20)
		want = append(want, big...)
		w.write(c, big)
		w.until("the kernel refuses some", func() bool { return len(r.backlog) > 0 })
		c.Close()
		got := make(chan []byte)
		go func() { got <- mustRead(t, peer, len(want)+1) }()
		w.until("it closes", func() bool { return r.closed })
		if !bytes.Equal(<-got, want) || r.err != nil {
			t.Errorf("other bytes, or an error: %v", r.err)
		}
		if r.sent != r.backlog[0] || r.backlog[len(r.backlog)-1] != 0 {
			t.Errorf("a backlog of %d, %d told as sent, %d left", r.backlog[0], r.sent, r.backlog[len(r.backlog)-1])
		}
	})
}

// TestPipePartsAreNotTorn has a pipe whose pages hold one write each, if that is a write
// of its own (O_DIRECT, pipe(2)): parts of up to PIPE_BUF that are written together come out
// together.
func TestPipePartsAreNotTorn(t *testing.T) {
	bothDrivers(t, func(t *testing.T, w *world) {
		var ends [2]int
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_DIRECT); err != nil {
			t.Fatal(err)
		}
		c, _ := w.adoptPipe(ends[1], PipeWriter)
		for i, size := range []int{3000, 3000, 1000, 96, 1, 5000, 10} {
			w.write(c, pattern(i, size))
		}
		w.until("all is sent", func() bool { return c.Queued() == 0 })
		p := make([]byte, 8192)
		for _, want := range []int{3000, 4096, 1, 4096, 904, 10} {
			n, err := unix.Read(ends[0], p)
			if err != nil || n != want {
				t.Errorf("a packet of %d bytes, not %d: %v", n, want, err)
			}
		}
		CloseDescriptor(ends[0])
	})
}

func TestWriterIsToldOfItsReadersEnd(t *testing.T) {
	everyMode(t, func(w *world) {
		_, r, peer := w.pipeEnd(PipeWriter)
		w.quiet()
		if r.eof {
			t.Error("an end while there is a reader")
		}
		CloseDescriptor(peer)
		w.until("it ends", func() bool { return r.closed })
		if !r.eof || r.err != nil {
			t.Errorf("end %v, error %v", r.eof, r.err)
		}
	})
}

func TestWritesToNobodyFail(t *testing.T) {
	everyMode(t, func(w *world) {
		for _, size := range []int{10, 1 << 20} {
			c, r, peer := w.pipeEnd(PipeWriter)
			c.Pause()
			if size > 10 {
				w.write(c, pattern(1, size))
				w.until("the kernel refuses some", func() bool { return len(r.backlog) > 0 })
				CloseDescriptor(peer)
			} else {
				CloseDescriptor(peer)
				w.write(c, pattern(1, size))
			}
			w.until("it closes", func() bool { return r.closed })
			if r.err == nil || r.err.Op != "write" || r.err.Err != syscall.EPIPE {
				t.Errorf("%d bytes: %v", size, r.err)
			}
		}
	})
}

func TestAbortedWriterDropsItsBacklog(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.pipeEnd(PipeWriter)
		defer CloseDescriptor(peer)
		w.write(c, pattern(1, 1<<20))
		w.until("the kernel refuses some", func() bool { return len(r.backlog) > 0 })
		w.quiet()
		c.Abort()
		w.until("it closes", func() bool { return r.closed })
	})
}

func TestSendNowOnAPipe(t *testing.T) {
	bothDrivers(t, func(t *testing.T, w *world) {
		c, r, peer := w.pipeEnd(PipeWriter)
		w.write(c, []byte("now"))
		if left, errno := c.SendNow(); left != 0 || errno != 0 {
			t.Fatalf("%d bytes left, %v", left, errno)
		}
		if got := mustRead(t, peer, 3); string(got) != "now" {
			t.Errorf("%q", got)
		}
		CloseDescriptor(peer)
		w.write(c, []byte("late"))
		if _, errno := c.SendNow(); errno != syscall.EPIPE {
			t.Errorf("a write to nobody: %v", errno)
		}
		w.until("it closes", func() bool { return r.closed })
	})
}

func TestTerminal(t *testing.T) {
	everyMode(t, func(w *world) {
		master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Skip(err)
		}
		if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
			t.Fatal(err)
		}
		slave, err := terminalOf(master)
		if err != nil {
			t.Fatal(err)
		}
		copied, err := unix.FcntlInt(uintptr(master), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		reader, got := w.adoptPipe(master, DeviceReader)
		writer, _ := w.adoptPipe(copied, DeviceWriter)
		w.write(writer, []byte("typed\n"))
		w.until("the echo", func() bool { return got.got.String() == "typed\r\n" })
		if line := mustRead(t, slave, 6); string(line) != "typed\n" {
			t.Errorf("the terminal's program read %q", line)
		}
		for range 3 {
			before := got.size
			mustWrite(t, slave, []byte("output"))
			w.until("the output", func() bool { return got.size == before+6 })
		}
		CloseDescriptor(slave)
		w.until("it ends", func() bool { return got.closed })
		if got.err == nil || got.err.Err != syscall.EIO || reader.Queued() != 0 {
			t.Errorf("a terminal ended with %v", got.err)
		}
		writer.Close()
	})
}

// terminalOf opens the terminal whose master this is.
func terminalOf(master int) (int, error) {
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return -1, err
	}
	return unix.Open("/dev/pts/"+strconv.Itoa(number), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
}

func TestDevices(t *testing.T) {
	everyMode(t, func(w *world) {
		null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, r := w.adoptPipe(null, DeviceReader)
		w.until("it ends", func() bool { return r.closed })
		zero, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		c, r := w.adoptPipe(zero, DeviceReader)
		w.until("zeros", func() bool { return r.size > 1000 })
		c.Close()
		w.until("it closes", func() bool { return r.closed })
	})
}

func TestSocketsAsPipes(t *testing.T) {
	everyMode(t, func(w *world) {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		reader, got := w.adoptPipe(pair[0], SocketReader)
		writer, wrote := w.adoptPipe(pair[1], SocketWriter)
		want := pattern(1, 1<<20)
		w.write(writer, want)
		w.until("all arrives", func() bool { return got.size == len(want) })
		if !bytes.Equal(got.got.Bytes(), want) {
			t.Error("other bytes")
		}
		reader.Close()
		w.until("the reader's end", func() bool { return got.closed && wrote.closed })
		if !wrote.eof {
			t.Error("the writer was not told")
		}
	})
}

func TestPipesInAnotherThread(t *testing.T) {
	bothDrivers(t, func(t *testing.T, w *world) {
		reader, got, feed := w.pipeEnd(PipeReader)
		writer, wrote, drain := w.pipeEnd(PipeWriter)
		w.write(writer, pattern(1, 1<<20))
		w.until("the kernel refuses some", func() bool { return len(wrote.backlog) > 0 })
		mustWrite(t, feed, []byte("one"))
		w.until("one arrives", func() bool { return got.size == 3 })
		w.e.Leave()
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if err := w.e.Attach(); err != nil {
				t.Error(err)
				return
			}
			mustWrite(t, feed, []byte("two"))
			w.until("two arrives", func() bool { return got.size == 6 })
			read := make(chan []byte)
			go func() { read <- mustRead(t, drain, 1<<20) }()
			w.until("all is sent", func() bool { return writer.Queued() == 0 })
			if !bytes.Equal(<-read, pattern(1, 1<<20)) {
				t.Error("other bytes")
			}
			CloseDescriptor(drain)
			w.until("the writer's end", func() bool { return wrote.closed })
			reader.Abort()
			w.until("it closes", func() bool { return got.closed })
			w.e.Leave()
		}()
		<-done
		CloseDescriptor(feed)
	})
}

func TestAdoptPipeRefuses(t *testing.T) {
	bothDrivers(t, func(t *testing.T, w *world) {
		for _, kind := range []PipeKind{notPipe, pipeKinds, 200} {
			if c, err := w.e.AdoptPipe(0, kind, &recorder{t: t}); err == nil {
				t.Errorf("kind %d: %v", kind, c)
			}
		}
	})
}

// scriptPipe is script's connection for a pipe.
func scriptPipe(t *testing.T, kind PipeKind) (*world, *scripted, *Conn, *recorder) {
	w, d, _, _ := script(t)
	r := &recorder{t: t, keep: true}
	c, err := w.e.AdoptPipe(-1, kind, r)
	if err != nil {
		t.Fatal(err)
	}
	c.Resume()
	w.poll(0)
	return w, d, c, r
}

func TestReadThatDoesNotWaitIsPolledFor(t *testing.T) {
	w, d, c, r := scriptPipe(t, PipeReader)
	if got := d.take(OpRead); len(got) != 1 || got[0].Once {
		t.Fatalf("read: %+v", got)
	}
	d.fail(OpReceive, c, syscall.EAGAIN)
	w.poll(0)
	w.poll(0)
	if got := d.take(OpPoll); len(got) != 1 || got[0].Events != unix.POLLIN {
		t.Fatalf("poll: %+v", got)
	}
	d.done = append(d.done, Completion{Token: makeToken(opReadable, c.id), Res: unix.POLLIN})
	w.poll(0)
	w.poll(0)
	if got := d.take(OpRead); len(got) != 1 || !got[0].Once {
		t.Fatalf("read: %+v", got)
	}
	d.data(c, "x", false)
	w.poll(0)
	w.poll(0)
	if got := d.take(OpRead); len(got) != 1 || got[0].Once || r.size != 1 {
		t.Fatalf("read: %+v, %d bytes", got, r.size)
	}
}

func TestAbortedWriterEndsThoughItsThreadHas(t *testing.T) {
	w, d, c, r := scriptPipe(t, PipeWriter)
	d.writes = syscall.EAGAIN
	w.write(c, []byte("never"))
	w.poll(0)
	w.poll(0) // the poll for room
	c.Abort()
	d.moved = true
	if err := w.e.Attach(); err != nil {
		t.Fatal(err)
	}
	w.poll(0)
	if !r.closed || w.released[1] != 1 {
		t.Errorf("closed %v, released %v", r.closed, w.released)
	}
}

func TestPollsThatFail(t *testing.T) {
	w, d, c, r := scriptPipe(t, DeviceReader)
	d.take(OpPoll)
	d.fail(opReadable, c, syscall.ECANCELED) // with the thread that had armed it
	w.poll(0)
	w.poll(0)
	if got := d.take(OpPoll); len(got) != 1 || r.closed {
		t.Fatalf("poll: %+v, closed %v", got, r.closed)
	}
	d.fail(opReadable, c, syscall.ENOMEM)
	w.poll(0)
	w.poll(0)
	if !r.closed || r.err == nil || r.err.Op != "read" || r.err.Err != syscall.ENOMEM {
		t.Errorf("closed %v: %v", r.closed, r.err)
	}
	w, d, c, r = scriptPipe(t, DeviceWriter)
	c.Pause()
	d.take(OpPoll)
	d.fail(opReadable, c, syscall.ECANCELED)
	d.writes = syscall.EAGAIN
	w.write(c, []byte("x"))
	w.poll(0)
	w.poll(0)
	if got := d.take(OpPoll); len(got) != 1 || got[0].Events != unix.POLLOUT {
		t.Fatalf("poll: %+v", got)
	}
	d.fail(opWritable, c, syscall.ENOMEM)
	w.poll(0)
	w.poll(0)
	if !r.closed || r.err == nil || r.err.Op != "write" || r.err.Err != syscall.ENOMEM {
		t.Errorf("closed %v: %v", r.closed, r.err)
	}
}
