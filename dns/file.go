package dns

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"kloop/core"
)

// checkEvery is how often files are looked at for changes, at most.
const checkEvery = time.Second

// clock is a time in ns since the process began, which takes half as long to read as time.Now.
func clock() int64 { return int64(time.Since(began)) }

var began = time.Now()

// version tells one state of a file from another. A file that is not there has the zero one.
type version struct {
	modified time.Time
	size     int64
	file     os.FileInfo
}

// versionOf asks for the state of a file by stat(2), of which what is in use is in the kernel's memory: with a ring one of
// its threads does it and wakes two others for the answer, and the one lookup a second that asks takes 0.5 ms instead of 0.09.
func versionOf(path string) version {
	if path == "" {
		return version{}
	}
	info, err := os.Stat(path)
	if err != nil {
		return version{}
	}
	return version{modified: info.ModTime(), size: info.Size(), file: info}
}

func (v version) same(other version) bool {
	if v.file == nil || other.file == nil {
		return v.file == nil && other.file == nil
	}
	// Another inode is another file, though it may have the same time: a copy that keeps it.
	return v.modified.Equal(other.modified) && v.size == other.size && os.SameFile(v.file, other.file)
}

// readLimit is more than any file has, in bytes.
const readLimit = 1 << 40

// disk is how files are read: by the ring of the background loop, so that only who waits for a file waits for the disk.
type disk struct {
	loop *core.Loop // nil: there is none, and it is read(2)
}

// diskForLookup is for goroutines that make a lookup: it may well need the background loop anyway.
func diskForLookup() disk {
	loop, err := core.Background()
	if err != nil {
		return disk{}
	}
	return disk{loop}
}

// diskForCall is for calls whose caller waits whatever they do: a loop is not made for that.
func diskForCall() disk { return disk{core.RunningBackground()} }

// read answers what os.ReadFile does.
func (d disk) read(path string) ([]byte, error) {
	if d.loop != nil {
		text, err := d.loop.ReadFile(context.Background(), path, readLimit)
		if !errors.Is(err, core.ErrClosed) && !errors.Is(err, core.ErrTooMany) {
			return text, err
		}
	}
	return os.ReadFile(path)
}

// watched is a file in a parsed form, which is read again when the file has changed.
type watched[T any] struct {
	path  string
	parse func(text string) T

	value   atomic.Pointer[T]
	checked atomic.Int64 // when it was last looked at, by clock; 0: never

	due    atomic.Bool // a lookup has begun that will look at it
	mu     sync.Mutex  // guards the following, and reading
	seen   version
	failed bool // what was last tried: nothing could be read, for now
}

// get answers the file's contents, at most checkEvery old; a file that can't be read is an empty one. A lookup at once that finds it
// changed, or not read yet, is made again by a goroutine, which waits until it is read.
func (w *watched[T]) get(ctx context.Context) T {
	once, _ := ctx.(*AtOnce)
	now := once.clock()
	last := w.checked.Load()
	value := w.value.Load()
	if value != nil && last != 0 && now-last < int64(checkEvery) {
		return *value
	}
	switch {
	case value == nil && once != nil:
		once.missFile()
		return w.parse("")
	case value != nil && !w.checked.CompareAndSwap(last, now): // another looks already
		return *value
	case once != nil:
		if w.changed() {
			w.due.Store(true)
			once.missFile()
		}
		return *value
	}
	w.checked.Store(now)
	w.read(diskForLookup())
	return *w.value.Load()
}

// changed says that there is something to read. That others read just now says it too: they are waited for.
func (w *watched[T]) changed() bool {
	if !w.mu.TryLock() {
		return true
	}
	defer w.mu.Unlock()
	return w.failed || !versionOf(w.path).same(w.seen)
}

// look reads the file if it has changed, and a lookup waits for that or it was not looked at for a while.
func (w *watched[T]) look() {
	if w.due.Swap(false) {
		w.read(diskForLookup())
	} else {
		w.get(context.Background())
	}
}

// now is get for a call whose caller waits whatever it does.
func (w *watched[T]) now() T {
	if w.value.Load() == nil || clock()-w.checked.Load() >= int64(checkEvery) {
		w.checked.Store(clock())
		w.read(diskForCall())
	}
	return *w.value.Load()
}

// read reads the file, if it was not read yet or has changed since.
func (w *watched[T]) read(from disk) {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Looked at before it is read: a change in between is seen the next time.
	now := versionOf(w.path)
	if w.value.Load() != nil && !w.failed && now.same(w.seen) {
		return
	}
	var text []byte
	w.failed = false
	if w.path != "" {
		var err error
		text, err = from.read(w.path)
		// No descriptor, say: what was known stays so, and the next look tries once more.
		if w.failed = err != nil && !isUnreadable(err); w.failed && w.value.Load() != nil {
			return
		}
	}
	value := w.parse(string(text))
	w.seen = now
	w.value.Store(&value)
}

// isUnreadable says that a file can't be read as it is, which makes it an empty one: for libc too, by errors like these.
func isUnreadable(err error) bool {
	for _, errno := range []syscall.Errno{syscall.ENOENT, syscall.EACCES, syscall.EPERM, syscall.EISDIR, syscall.ENOTDIR, syscall.ELOOP} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
