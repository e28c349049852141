package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"kloop/uring"
)

// File is an open file whose I/O a Loop does: by the ring, or by a few goroutines where its driver
// can't. Its methods are for any goroutine but the loop's own; the loop must be running.
//
// ReadAt and WriteAt may be under way in any number. Read, Write and Seek share one position, which is the
// File's own, and take turns. Errors are *fs.PathError with a syscall.Errno, io.EOF, or os.ErrClosed; a
// call whose context is done ends with that one's error, once neither the kernel nor a thread uses its
// memory any more.
type File struct {
	loop     *Loop
	name     string
	fd       int
	appends  bool
	polled   bool // it has no position, and poll(2) tells when it is ready
	closing  context.Context
	close    context.CancelFunc
	calls    sync.RWMutex // locked for reading while fd is used
	closed   bool         // guarded by calls
	turn     sync.Mutex   // guards position
	position int64
}

var (
	_ io.ReadWriteSeeker = (*File)(nil)
	_ io.ReaderAt        = (*File)(nil)
	_ io.WriterAt        = (*File)(nil)
	_ io.Closer          = (*File)(nil)
)

// OpenFile opens a file on the background loop of the process; see Loop.OpenFile.
func OpenFile(ctx context.Context, name string, flag int, perm fs.FileMode) (*File, error) {
	loop, err := Background()
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return loop.OpenFile(ctx, name, flag, perm)
}

// ReadFile reads a whole file of at most limit bytes on the background loop of the process; see Loop.ReadFile.
func ReadFile(ctx context.Context, name string, limit int64) ([]byte, error) {
	loop, err := Background()
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return loop.ReadFile(ctx, name, limit)
}

// ReadFile reads a whole file of at most limit bytes. A longer one is an error (EFBIG).
func (l *Loop) ReadFile(ctx context.Context, name string, limit int64) ([]byte, error) {
	f, err := l.OpenFile(ctx, name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	p, err := f.readAll(ctx, limit)
	return p, errors.Join(err, f.Close())
}

// OpenFile opens a file as os.OpenFile does: flag is O_RDONLY or the like, and perm the permissions of what is made, less
// the umask. An open that waits, as that of a FIFO, ends with ctx.
func (l *Loop) OpenFile(ctx context.Context, name string, flag int, perm fs.FileMode) (*File, error) {
	path := append([]byte(name), 0)
	fd, err := l.fileCall(ctx, OperationSpec{Kind: OpOpen, FD: unix.AT_FDCWD, File: FileRequest{
		Path: path, Flags: uint32(flag | unix.O_CLOEXEC), Mode: uint32(perm.Perm()),
	}})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	OwnDescriptor(fd)
	f := &File{loop: l, name: name, fd: fd, appends: flag&os.O_APPEND != 0}
	_, err = unix.Seek(fd, 0, io.SeekCurrent) // which looks at nothing but the open file
	f.polled = err == unix.ESPIPE
	f.closing, f.close = context.WithCancel(context.Background())
	return f, nil
}

// Name is what was given to OpenFile.
func (f *File) Name() string { return f.name }

// ReadAt fills p with the bytes at off. At the end of the file it answers fewer, and io.EOF.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	return f.ReadAtContext(context.Background(), p, off)
}

// ReadAtContext is ReadAt until ctx is done.
func (f *File) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, f.error("readat", syscall.EINVAL)
	}
	done := 0
	for done < len(p) {
		n, err := f.move(ctx, OpFileRead, p[done:], uint64(off)+uint64(done))
		done += n
		if err != nil {
			return done, f.error("read", err)
		}
		if n == 0 {
			return done, io.EOF
		}
	}
	return done, nil
}

// WriteAt writes all of p at off. A file opened with O_APPEND can't: it would be written at its end.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	return f.WriteAtContext(context.Background(), p, off)
}

// WriteAtContext is WriteAt until ctx is done. It tells how many bytes were written by then.
func (f *File) WriteAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 || f.appends {
		return 0, f.error("writeat", syscall.EINVAL)
	}
	return f.writeAll(ctx, p, uint64(off))
}

func (f *File) writeAll(ctx context.Context, p []byte, off uint64) (int, error) {
	done := 0
	for done < len(p) {
		at := off
		if at != CurrentOffset {
			at += uint64(done)
		}
		n, err := f.move(ctx, OpFileWrite, p[done:], at)
		done += n
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return done, f.error("write", err)
		}
	}
	return done, nil
}

// Read reads up to len(p) bytes at the position. 0 bytes and io.EOF: the end.
func (f *File) Read(p []byte) (int, error) { return f.ReadContext(context.Background(), p) }

// ReadContext is Read until ctx is done.
func (f *File) ReadContext(ctx context.Context, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	f.turn.Lock()
	defer f.turn.Unlock()
	n, err := f.move(ctx, OpFileRead, p, f.here())
	if err != nil {
		return 0, f.error("read", err)
	}
	f.position += int64(n)
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Write writes all of p at the position; with O_APPEND at the end of the file.
func (f *File) Write(p []byte) (int, error) { return f.WriteContext(context.Background(), p) }

// WriteContext is Write until ctx is done. It tells how many bytes were written by then.
func (f *File) WriteContext(ctx context.Context, p []byte) (int, error) {
	f.turn.Lock()
	defer f.turn.Unlock()
	at := f.here()
	if f.appends {
		at = CurrentOffset
	}
	n, err := f.writeAll(ctx, p, at)
	f.position += int64(n)
	return n, err
}

func (f *File) here() uint64 {
	if f.polled {
		return CurrentOffset
	}
	return uint64(f.position)
}

// Seek moves the position; io.SeekEnd asks for the size of the file. Pipes have none (ESPIPE).
func (f *File) Seek(offset int64, whence int) (int64, error) {
	f.turn.Lock()
	defer f.turn.Unlock()
	base := int64(0)
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		base = f.position
	case io.SeekEnd:
		size, err := f.Size(context.Background())
		if err != nil {
			return 0, err
		}
		base = size
	default:
		return 0, f.error("seek", syscall.EINVAL)
	}
	switch {
	case f.polled:
		return 0, f.error("seek", syscall.ESPIPE)
	case base+offset < 0:
		return 0, f.error("seek", syscall.EINVAL)
	}
	f.position = base + offset
	return f.position, nil
}

// Size asks for the size of the file, in bytes.
func (f *File) Size(ctx context.Context) (int64, error) {
	var state [uring.StatxSize]byte
	_, err := f.call(ctx, OperationSpec{Kind: OpStat, Buffer: state[:], File: FileRequest{
		Path: []byte{0}, Flags: unix.AT_EMPTY_PATH, Mode: unix.STATX_SIZE,
	}})
	if err != nil {
		return 0, f.error("stat", err)
	}
	return int64(uring.StatxFileSize(state[:])), nil
}

// Sync waits until the device has all that was written (fsync(2)).
func (f *File) Sync(ctx context.Context) error {
	_, err := f.call(ctx, OperationSpec{Kind: OpSync})
	return f.error("sync", err)
}

// Truncate sets the size of the file, in bytes. The position does not change.
func (f *File) Truncate(ctx context.Context, size int64) error {
	if size < 0 {
		return f.error("truncate", syscall.EINVAL)
	}
	_, err := f.call(ctx, OperationSpec{Kind: OpTruncate, File: FileRequest{Offset: uint64(size)}})
	return f.error("truncate", err)
}

// Close ends the calls that are under way, which answer os.ErrClosed, and closes the file.
func (f *File) Close() error {
	f.close()
	f.calls.Lock()
	defer f.calls.Unlock()
	if f.closed {
		return f.error("close", os.ErrClosed)
	}
	f.closed = true
	disownDescriptor(f.fd)
	_, err := f.loop.fileCall(context.Background(), OperationSpec{Kind: OpClose, FD: f.fd})
	if errors.Is(err, ErrClosed) && err != errLost { // the loop, which has not begun
		err = unix.Close(f.fd)
	}
	return f.error("close", err)
}

// readAll reads from the start to the end.
func (f *File) readAll(ctx context.Context, limit int64) ([]byte, error) {
	const first = 4 << 10
	p := make([]byte, 0, min(first, limit+1))
	for {
		n, err := f.ReadContext(ctx, p[len(p):cap(p)])
		p = p[:len(p)+n]
		switch {
		case err == io.EOF:
			return p, nil
		case err != nil:
			return nil, err
		case int64(len(p)) > limit:
			return nil, f.error("read", syscall.EFBIG)
		case len(p) == cap(p):
			p = append(make([]byte, 0, min(2*int64(cap(p)), limit+1)), p...)
		}
	}
}

// move is one read or write.
func (f *File) move(ctx context.Context, kind OpKind, p []byte, off uint64) (int, error) {
	if off != CurrentOffset && f.polled || off > math.MaxInt64 && off != CurrentOffset {
		return 0, syscall.ESPIPE
	}
	return f.call(ctx, OperationSpec{Kind: kind, Buffer: p, File: FileRequest{Offset: off, Polled: f.polled}})
}

// call makes a call on the descriptor, unless the file is closed.
func (f *File) call(ctx context.Context, spec OperationSpec) (int, error) {
	f.calls.RLock()
	defer f.calls.RUnlock()
	if f.closed {
		return 0, os.ErrClosed
	}
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(f.closing, cancel)()
	spec.FD = f.fd
	n, err := f.loop.fileCall(both, spec)
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		err = os.ErrClosed
	}
	return n, err
}

// error names the file.
func (f *File) error(op string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

// fileWait is a goroutine that waits for an operation.
type fileWait struct {
	loop    *Loop
	spec    OperationSpec
	claimed atomic.Bool // the loop's thread has begun with it, or never will
	done    chan struct{}
	// The loop's thread alone uses these, until done is closed.
	o         *Operation
	cancelled bool
	result    int
	err       error
}

// errLost says that the loop has failed with a call under way: what that has done is not known.
var errLost = fmt.Errorf("kloop: the loop has failed: %w", ErrClosed)

// fileCall makes a call on a file in the loop's thread, and waits for its answer. With a done
// context it waits on, until the kernel has no part in it any more.
func (l *Loop) fileCall(ctx context.Context, spec OperationSpec) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	w := &fileWait{loop: l, spec: spec, done: make(chan struct{})}
	l.Post(w.start)
	// What is posted now may never run if the loop is closed.
	if isDone(l.ended) && !w.claimed.Swap(true) {
		return 0, ErrClosed
	}
	select {
	case <-w.done:
	case <-l.ended:
	case <-ctx.Done():
		l.Post(w.cancel)
		select {
		case <-w.done:
		case <-l.ended:
		}
	}
	if !isDone(w.done) {
		return 0, errLost // it keeps the memory
	}
	switch {
	case w.err != nil:
		return 0, w.err
	case w.result == -int(syscall.ECANCELED) && ctx.Err() != nil:
		return 0, ctx.Err()
	case w.result < 0:
		return 0, syscall.Errno(-w.result)
	}
	return w.result, nil
}

func (w *fileWait) start() {
	if w.claimed.Swap(true) {
		return
	}
	if w.o, w.err = w.loop.engine.Start(w.spec, 0, w); w.err != nil {
		w.err = fmt.Errorf("kloop: %w", w.err)
		close(w.done)
		return
	}
	if w.cancelled {
		w.o.Cancel()
	}
}

func (w *fileWait) cancel() {
	w.cancelled = true
	if w.o != nil {
		w.o.Cancel()
	}
}

// Done implements OperationHandler.
func (w *fileWait) Done(_ *Operation, result int, _ []byte) {
	w.o, w.result = nil, result
	close(w.done)
}
