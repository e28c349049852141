package uring_test

import (
	"errors"
	"fmt"
	"log"
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"

	"kloop/uring"
)

// A ring belongs to the thread that made it.
func ExampleNew() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, err := uring.New(uring.Options{Entries: 8, SQPollCPU: -1})
	if errors.Is(err, uring.ErrNotSupported) {
		log.Fatal("fall back to epoll: ", err)
	} else if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = r.Close() }()

	s := r.NextSQE()
	s.PrepNop()
	s.SetUserData(42)
	if _, err := r.EnterWait(r.Publish(), 1, 0, 1_000_000_000); err != nil {
		log.Fatal(err)
	}
	var out [8]uring.CQE
	for _, c := range out[:r.Reap(out[:])] {
		fmt.Println(c.UserData, c.Res)
	}
	// Output: 42 0
}

// A feature is looked for by trying it, and the error says what is missing.
func ExampleHave() {
	if err := uring.Have(uring.FeatureMultishotRecv); err != nil {
		fmt.Println(err) // such as: uring: multishot receive is not supported (requires Linux 6.0)
	} else {
		fmt.Println("multishot receive works")
	}
	// Output: multishot receive works
}

// Available says why io_uring can't be used, and what to do about it.
func ExampleAvailable() {
	var u *uring.UnavailableError
	if err := uring.Available(); errors.As(err, &u) {
		fmt.Println("cause:", u.Cause, "remedy:", u.Remedy)
	}
	// Output:
}

// Receives take a buffer only when data is there, and go on until they are
// cancelled or the stream ends.
func ExampleSQE_PrepRecvMultishot() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, err := uring.New(uring.Options{SQPollCPU: -1})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	const group = 1
	buffers, err := r.NewBufRing(group, 8, 4096, false)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = buffers.Close() }()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range []string{"one", "two", "three"} {
		if _, err := uring.SendNow(pair[1], []byte(p), 0); err != nil {
			log.Fatal(err)
		}
	}
	if err := unix.Close(pair[1]); err != nil {
		log.Fatal(err)
	}

	r.NextSQE().PrepRecvMultishot(pair[0], group)
	var out [8]uring.CQE
	for more := true; more; {
		if _, err := r.EnterWait(r.Publish(), 1, 0, -1); err != nil && err != unix.EINTR {
			log.Fatal(err)
		}
		for _, c := range out[:r.Reap(out[:])] {
			if id, ok := c.Buffer(); ok && c.Res > 0 {
				fmt.Printf("%s\n", buffers.Bytes(id, 0, int(c.Res)))
				buffers.Recycle(id)
			}
			more = c.More()
		}
	}
	if err := unix.Close(pair[0]); err != nil {
		log.Fatal(err)
	}
	// Output:
	// one
	// two
	// three
}

// A quick send has no CQE when the socket took everything, so one enter can send
// to many and answers only where there is more to do.
func ExampleSQE_PrepSendMsg() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, err := uring.New(uring.Options{SQPollCPU: -1})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	arena, err := uring.NewMsgArena()
	if err != nil {
		log.Fatal(err)
	}
	defer arena.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		log.Fatal(err)
	}

	m := arena.Msg([][]byte{[]byte("hello, "), []byte("world")})
	s := r.NextSQE()
	s.PrepSendMsg(pair[0], m, uring.QuickSendFlags)
	s.SetFlags(uring.IOSQE_CQE_SKIP_SUCCESS)
	if _, err := r.Enter(r.Publish(), 0, uring.IORING_ENTER_GETEVENTS); err != nil {
		log.Fatal(err)
	}
	arena.Reset() // the kernel has consumed the SQE

	var buf [32]byte
	n, err := unix.Read(pair[1], buf[:])
	fmt.Printf("%s, %v, %d completions\n", buf[:n], err, r.CQReady())
	if err := errors.Join(unix.Close(pair[0]), unix.Close(pair[1])); err != nil {
		log.Fatal(err)
	}
	// Output: hello, world, <nil>, 0 completions
}

func ExampleSockaddrInet() {
	addr, err := uring.SockaddrInet(netip.MustParseAddrPort("127.0.0.1:80"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(addr.Bytes()), "bytes")
	// Output: 16 bytes
}
