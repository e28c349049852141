package uring

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// What kernels differ in. Each is probed by doing it on a ring of its own.
var (
	FeatureExtArg             = &Feature{Name: "wait with a time limit (EXT_ARG)", Since: "5.11", probe: probeExtArg}
	FeatureMultishotPoll      = &Feature{Name: "multishot poll", Since: "5.13", probe: probeMultishotPoll}
	FeatureCQESkip            = &Feature{Name: "success without a CQE (CQE_SKIP_SUCCESS)", Since: "5.17", probe: probeCQESkip}
	FeatureQuickSend          = &Feature{Name: "CQE for short sends only (MSG_WAITALL with CQE_SKIP_SUCCESS)", Since: "5.17", probe: probeQuickSend}
	FeatureMultishotAccept    = &Feature{Name: "multishot accept", Since: "5.19", probe: probeMultishotAccept}
	FeatureBufferRings        = &Feature{Name: bufRingName, Since: bufRingSince, probe: probeBufferRings}
	FeatureMultishotRecv      = &Feature{Name: "multishot receive", Since: "6.0", probe: probeMultishotRecv}
	FeatureSyncCancel         = &Feature{Name: "synchronous cancel", Since: "6.0", probe: probeSyncCancel}
	FeatureSingleIssuer       = &Feature{Name: "SINGLE_ISSUER", Since: "6.0", probe: probeFlag(IORING_SETUP_SINGLE_ISSUER)}
	FeatureDeferTaskrun       = &Feature{Name: "DEFER_TASKRUN", Since: "6.1", probe: probeFlag(IORING_SETUP_DEFER_TASKRUN)}
	FeatureNoSQArray          = &Feature{Name: "NO_SQARRAY", Since: "6.6", probe: probeFlag(IORING_SETUP_NO_SQARRAY)}
	FeatureIncrementalBuffers = &Feature{Name: incrementalName, Since: incrementalSince, probe: probeIncremental}
)

// AllFeatures answers every feature, oldest first.
func AllFeatures() []*Feature {
	return []*Feature{
		FeatureExtArg, FeatureMultishotPoll, FeatureCQESkip, FeatureQuickSend, FeatureMultishotAccept,
		FeatureBufferRings, FeatureMultishotRecv, FeatureSyncCancel, FeatureSingleIssuer, FeatureDeferTaskrun,
		FeatureNoSQArray, FeatureMultishotRead, FeatureFtruncate, FeatureIncrementalBuffers,
	}
}

const (
	probeEntries    = 4
	probeGroup      = 0
	probeBuffers    = 2
	probeBufferSize = 4096
	// probeTimeoutNS bounds a probe. Every probed operation has completed by
	// the time the kernel is entered, so only a kernel that lacks it waits.
	probeTimeoutNS = 100_000_000
	// probeWaits bounds the waits that signals end before the time is over.
	probeWaits = 100
)

// withRing runs do on a small ring, in a thread that stays the same.
func withRing(do func(*Ring) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, err := New(Options{Entries: probeEntries, SQPollCPU: -1})
	if err != nil {
		return err
	}
	return errors.Join(do(r), r.Close())
}

// answer submits what is prepared and answers the next CQE, or nil when none
// comes in time.
func answer(r *Ring) (*CQE, error) {
	var out [1]CQE
	for range probeWaits {
		_, err := r.EnterWait(r.Publish(), 1, 0, probeTimeoutNS)
		if r.Reap(out[:]) == 1 {
			return &out[0], nil
		}
		if err == unix.ETIME {
			return nil, nil
		}
		if err != nil && err != unix.EINTR {
			return nil, fmt.Errorf("uring: probe: %w", err)
		}
	}
	return nil, fmt.Errorf("uring: probe: %w", unix.EINTR)
}

// judge turns the answer to a probed operation into the probe's: it must have
// the flags.
func judge(f *Feature, c *CQE, flags uint32) error {
	switch {
	case c == nil:
		return f.notSupported(errors.New("no completion"))
	case c.Res < 0 && unsupportedErrno(unix.Errno(-c.Res)):
		return f.notSupported(unix.Errno(-c.Res))
	case c.Res < 0:
		return fmt.Errorf("uring: probe of %s: %w", f.Name, unix.Errno(-c.Res))
	case c.Flags&flags != flags:
		return f.notSupported(nil)
	}
	return nil
}

// unsupportedErrno reports whether an errno is how kernels refuse what they do
// not know.
func unsupportedErrno(errno unix.Errno) bool {
	return errno == unix.EINVAL || errno == unix.EOPNOTSUPP || errno == unix.ENOSYS
}

// probeFlag makes a probe that looks whether the ladder kept a set-up flag.
func probeFlag(flag uint32) func(*Feature) error {
	return func(f *Feature) error {
		return withRing(func(r *Ring) error {
			if r.Flags()&flag == 0 {
				return f.notSupported(unix.EINVAL)
			}
			return nil
		})
	}
}

func probeExtArg(f *Feature) error {
	return withRing(func(r *Ring) error {
		_, err := r.EnterWait(0, 1, 0, 0)
		if err == unix.ETIME {
			return nil
		}
		return f.notSupported(err)
	})
}

func probeMultishotPoll(f *Feature) error {
	fd, err := unix.Eventfd(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("uring: probe: eventfd: %w", err)
	}
	err = withRing(func(r *Ring) error {
		r.NextSQE().PrepPollMultishot(fd, unix.POLLIN)
		c, err := answer(r)
		if err != nil {
			return err
		}
		return judge(f, c, IORING_CQE_F_MORE)
	})
	return errors.Join(err, unix.Close(fd))
}

// probeCQESkip submits a NOP that is to say nothing and one that does: the
// first answer must be the second's.
func probeCQESkip(f *Feature) error {
	return withRing(func(r *Ring) error {
		const silent, loud = 1, 2
		s := r.NextSQE()
		s.PrepNop()
		s.SetFlags(IOSQE_CQE_SKIP_SUCCESS)
		s.SetUserData(silent)
		s = r.NextSQE()
		s.PrepNop()
		s.SetUserData(loud)
		c, err := answer(r)
		if err != nil {
			return err
		}
		if c != nil && c.Res == 0 && c.UserData == silent {
			return f.notSupported(nil)
		}
		return judge(f, c, 0)
	})
}

// probeQuickSend sends more than a socket takes: an answer with the part that
// was taken must come.
func probeQuickSend(f *Feature) error {
	return withPair(func(a, _ int) error {
		return withRing(func(r *Ring) error {
			s := r.NextSQE()
			s.PrepSend(a, make([]byte, 16<<20), QuickSendFlags) // above any default of net.core.wmem_max
			s.SetFlags(IOSQE_CQE_SKIP_SUCCESS)
			c, err := answer(r)
			if err != nil {
				return err
			}
			return judge(f, c, 0)
		})
	})
}

func probeMultishotAccept(f *Feature) error {
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("uring: probe: socket: %w", err)
	}
	err = withRing(func(r *Ring) error { return acceptTwice(f, r, listener) })
	return errors.Join(err, unix.Close(listener))
}

// acceptTwice connects to an unnamed Unix listener (the kernel picks an abstract
// name) and looks whether the accept goes on.
func acceptTwice(f *Feature, r *Ring, listener int) error {
	if err := unix.Bind(listener, &unix.SockaddrUnix{}); err != nil {
		return fmt.Errorf("uring: probe: bind: %w", err)
	}
	if err := unix.Listen(listener, 1); err != nil {
		return fmt.Errorf("uring: probe: listen: %w", err)
	}
	addr, err := unix.Getsockname(listener)
	if err != nil {
		return fmt.Errorf("uring: probe: getsockname: %w", err)
	}
	client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("uring: probe: socket: %w", err)
	}
	if err := unix.Connect(client, addr); err != nil {
		return errors.Join(fmt.Errorf("uring: probe: connect: %w", err), unix.Close(client))
	}
	r.NextSQE().PrepAcceptMultishot(listener, unix.SOCK_CLOEXEC)
	c, err := answer(r)
	if err == nil {
		err = judge(f, c, IORING_CQE_F_MORE)
	}
	if c != nil && c.Res >= 0 {
		err = errors.Join(err, unix.Close(int(c.Res)))
	}
	return errors.Join(err, unix.Close(client))
}

func probeBufferRings(*Feature) error { return probeBufRing(false) }
func probeIncremental(*Feature) error { return probeBufRing(true) }

func probeBufRing(incremental bool) error {
	return withRing(func(r *Ring) error {
		b, err := r.NewBufRing(probeGroup, probeBuffers, probeBufferSize, incremental)
		if err != nil {
			return err
		}
		return b.Close()
	})
}

func probeMultishotRecv(f *Feature) error {
	return withPair(func(a, b int) error {
		return withRing(func(r *Ring) error {
			bufs, err := r.NewBufRing(probeGroup, probeBuffers, probeBufferSize, false)
			if errors.Is(err, ErrNotSupported) {
				return f.notSupported(err)
			}
			if err != nil {
				return err
			}
			return errors.Join(recvTwice(f, r, a, b), bufs.Close())
		})
	})
}

// recvTwice receives a byte and then the end of the stream, so that the receive
// does not stay armed, and looks whether it went on after the byte.
func recvTwice(f *Feature, r *Ring, receiver, sender int) error {
	if _, err := SendNow(sender, []byte{0}, 0); err != nil {
		return fmt.Errorf("uring: probe: send: %w", err)
	}
	if err := unix.Shutdown(sender, unix.SHUT_WR); err != nil {
		return fmt.Errorf("uring: probe: shutdown: %w", err)
	}
	r.NextSQE().PrepRecvMultishot(receiver, probeGroup)
	c, err := answer(r)
	if err != nil {
		return err
	}
	return judge(f, c, IORING_CQE_F_MORE|IORING_CQE_F_BUFFER)
}

func probeSyncCancel(f *Feature) error {
	return withRing(func(r *Ring) error {
		err := r.SyncCancel(-1, 1, false, false, 0)
		switch {
		case err == nil, errors.Is(err, unix.ENOENT):
			return nil
		case errors.Is(err, unix.EINVAL):
			return f.notSupported(unix.EINVAL)
		}
		return err
	})
}

// withPair runs do with two connected stream sockets.
func withPair(do func(a, b int) error) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("uring: probe: socketpair: %w", err)
	}
	return errors.Join(do(pair[0], pair[1]), unix.Close(pair[0]), unix.Close(pair[1]))
}
