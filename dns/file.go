package dns

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
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

// watched is a file in a parsed form, which is read again when the file has changed.
type watched[T any] struct {
	path  string
	parse func(text string) T

	value   atomic.Pointer[T]
	checked atomic.Int64 // when it was last looked at, by clock; 0: never

	mu     sync.Mutex // guards the following, and reading
	seen   version
	failed bool // what was last tried: nothing could be read, for now
}

// get answers the file's contents, at most checkEvery old. A file that can't be read is an
// empty one.
func (w *watched[T]) get() T {
	now := clock()
	last := w.checked.Load()
	value := w.value.Load()
	if value != nil && last != 0 && now-last < int64(checkEvery) {
		return *value
	}
	if value != nil && !w.checked.CompareAndSwap(last, now) {
		return *value // another looks already
	}
	w.checked.Store(now)
	w.read()
	return *w.value.Load()
}

// read reads the file, if it was not read yet or has changed since.
func (w *watched[T]) read() {
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
		text, err = os.ReadFile(w.path)
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

// quickMax is the size in bytes of a file that is read in no time: 64 KiB of a hosts file take 1 ms.
const quickMax = 64 << 10

// quick says that get will not have to read a large file.
func (w *watched[T]) quick() bool {
	if w.value.Load() != nil && clock()-w.checked.Load() < int64(checkEvery) {
		return true
	}
	now := versionOf(w.path)
	if now.size <= quickMax {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.value.Load() != nil && now.same(w.seen)
}
