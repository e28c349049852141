package uring

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FeatureMultishotRead is PrepReadMultishot.
var FeatureMultishotRead = &Feature{Name: "multishot read", Since: "6.7", probe: probeMultishotRead}

// PrepReadSelect reads once, as read(2), into a buffer taken from the buffer ring
// of that group (5.19). Res: bytes, 0 at the end; CQE.Buffer: where. -ENOBUFS when the
// buffer ring was empty.
//
// On a file that is O_NONBLOCK and whose driver does not know IOCB_NOWAIT, as those of
// terminals, it answers -EAGAIN when there is nothing to read; on a pipe it waits.
func (s *SQE) PrepReadSelect(fd int, group uint16) {
	s.prep(IORING_OP_READ, fd, 0, 0, CurrentOffset)
	s.Flags |= IOSQE_BUFFER_SELECT
	s.BufGroup = group
}

// PrepReadMultishot is PrepReadSelect that goes on (6.7), as PrepRecvMultishot does, and
// ends as that does. The file must be one that can be polled: a pipe, a FIFO.
func (s *SQE) PrepReadMultishot(fd int, group uint16) {
	s.prep(IORING_OP_READ_MULTISHOT, fd, 0, 0, CurrentOffset)
	s.Flags |= IOSQE_BUFFER_SELECT
	s.BufGroup = group
}

// WriteNowParts is how many parts WriteNow takes; they are listed on the stack.
const WriteNowParts = 64

// WriteNow writes parts in order to a file that is O_NONBLOCK, as one write(2) or
// writev(2), a raw system call, since it does not wait. It takes the first WriteNowParts
// parts, and answers the bytes that were taken. Errors are bare unix.Errno values: EAGAIN when
// nothing fits, EPIPE when nobody reads any more, for which SIGPIPE comes as well.
func WriteNow(fd int, parts [][]byte) (int, error) {
	var iov [WriteNowParts]unix.Iovec
	parts = parts[:min(len(parts), WriteNowParts)]
	for i, p := range parts {
		iov[i].Base = unsafe.SliceData(p)
		iov[i].SetLen(len(p))
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&iov)), uintptr(len(parts)))
	runtime.KeepAlive(&iov)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func probeMultishotRead(f *Feature) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("uring: probe: pipe: %w", err)
	}
	_, err := WriteNow(pipe[1], [][]byte{{0}})
	if err = errors.Join(err, unix.Close(pipe[1])); err != nil {
		return errors.Join(fmt.Errorf("uring: probe: write: %w", err), unix.Close(pipe[0]))
	}
	err = withRing(func(r *Ring) error {
		bufs, err := r.NewBufRing(probeGroup, probeBuffers, probeBufferSize, false)
		if errors.Is(err, ErrNotSupported) {
			return f.notSupported(err)
		}
		if err != nil {
			return err
		}
		return errors.Join(readTwice(f, r, pipe[0]), bufs.Close())
	})
	return errors.Join(err, unix.Close(pipe[0]))
}

// readTwice reads the byte that is in a pipe and then its end, so that the read does
// not stay armed, and looks whether it went on after the byte.
func readTwice(f *Feature, r *Ring, pipe int) error {
	r.NextSQE().PrepReadMultishot(pipe, probeGroup)
	c, err := answer(r)
	if err != nil {
		return err
	}
	return judge(f, c, IORING_CQE_F_MORE|IORING_CQE_F_BUFFER)
}
