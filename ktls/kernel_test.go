package ktls

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testLimit bounds every wait of these tests: none comes near it unless
// something is lost. The guest is slow.
const testLimit = 60 * time.Second

// needKernel skips a test where the kernel has no TLS, but not in the guest.
func needKernel(t testing.TB) {
	t.Helper()
	if err := Have(FeatureULP); err != nil {
		if inGuest() {
			t.Fatal(err)
		}
		t.Skipf("%v: `make test-ktls` runs this on a kernel that has it", err)
	}
}

// sockets answers two ends of a TCP connection, and the first one's fd.
func sockets(t testing.TB) (a, b *net.TCPConn, fd int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	x, err := net.Dial("tcp", l.Addr().String())
	check(t, err)
	y, err := l.Accept()
	check(t, err)
	for _, c := range []net.Conn{x, y} {
		check(t, c.SetDeadline(time.Now().Add(testLimit)))
		t.Cleanup(func() { c.Close() })
	}
	raw, err := x.(syscall.Conn).SyscallConn()
	check(t, err)
	check(t, raw.Control(func(n uintptr) { fd = int(n) }))
	return x.(*net.TCPConn), y.(*net.TCPConn), fd
}

// receive waits for what the kernel has opened. The fd does not block.
func receive(t testing.TB, c *net.TCPConn, p []byte) (n int, typ ContentType, err error) {
	t.Helper()
	raw, rawErr := c.SyscallConn()
	check(t, rawErr)
	check(t, raw.Read(func(fd uintptr) bool {
		n, typ, err = ReceiveRecord(int(fd), p, make([]byte, ControlSize))
		return err != unix.EAGAIN
	}))
	return n, typ, err
}

// TestCryptoInfo compares with linux/tls.h, field by field.
func TestCryptoInfo(t *testing.T) {
	for _, s := range distinctSuites() {
		traffic := &Traffic{suite: s}
		for i := range traffic.key {
			traffic.key[i] = byte(0x40 + i)
		}
		copy(traffic.iv[:], "abcdefghijkl")
		var info [maxInfoSize]byte
		n := cryptoInfo(&info, traffic, 0x0102030405060708, 0x1112131415161718)
		want := make([]byte, 4)
		binary.NativeEndian.PutUint16(want, uint16(s.Version))
		key := traffic.key[:s.Cipher.KeySize()]
		iv, salt := []byte("efghijkl"), []byte("abcd")
		switch {
		case s.Cipher == ChaCha20Poly1305:
			binary.NativeEndian.PutUint16(want[2:], 54)
			iv, salt = []byte("abcdefghijkl"), nil
		case s.Cipher == AES128GCM:
			binary.NativeEndian.PutUint16(want[2:], 51)
		default:
			binary.NativeEndian.PutUint16(want[2:], 52)
		}
		if s.Version == TLS12 && salt != nil {
			iv = []byte{0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18}
		}
		want = bytes.Join([][]byte{want, iv, key, salt, {1, 2, 3, 4, 5, 6, 7, 8}}, nil)
		equal(t, s.Name, info[:n], want)
	}
}

// sendControl has the kernel seal one record, all of it at once.
func sendControl(t testing.TB, fd int, typ ContentType, p []byte) {
	t.Helper()
	n, err := SendRecord(fd, typ, p)
	check(t, err)
	if n != len(p) {
		t.Fatalf("%d of %d bytes", n, len(p))
	}
}

// readRecords reads n whole records.
func readRecords(t testing.TB, c io.Reader, n int) (out []byte) {
	t.Helper()
	for range n {
		header := make([]byte, HeaderSize)
		_, err := io.ReadFull(c, header)
		check(t, err)
		h, _ := ParseHeader(header)
		body := make([]byte, h.Length)
		_, err = io.ReadFull(c, body)
		check(t, err)
		out = append(append(out, header...), body...)
	}
	return out
}

// TestKernelSeals: what the kernel sends, from any number on, this package opens.
func TestKernelSeals(t *testing.T) {
	needKernel(t)
	for _, s := range distinctSuites() {
		for _, seq := range []uint64{0, 1, 1 << 40} {
			before := kernelStat(t)
			a, b, fd := sockets(t)
			mine, theirs := trafficOf(t, s, 3)
			sealer, err := NewSealer(mine, seq)
			check(t, err)
			sealer.limit = ^uint64(0)
			sealer.SetExplicitNonce(77)
			opener, err := NewOpener(theirs, seq)
			check(t, err)
			check(t, EnableKernel(fd))
			check(t, EnableKernel(fd))
			check(t, sealer.GiveToKernel(fd))
			_, err = a.Write(pattern(1000))
			check(t, err)
			record := readRecords(t, b, 1)
			if s.Version == TLS12 && s.Cipher.gcm() && binary.BigEndian.Uint64(record[HeaderSize:]) != 77 {
				t.Errorf("%s: explicit nonce % x", s.Name, record[HeaderSize:HeaderSize+8])
			}
			equal(t, s.Name, openAll(t, opener, record, TypeData), pattern(1000))
			alert := AlertCloseNotify.Content()
			sendControl(t, fd, TypeAlert, alert[:])
			equal(t, s.Name, openAll(t, opener, readRecords(t, b, 1), TypeAlert), alert[:])
			if s.Version == TLS13 {
				check(t, Have(FeatureRekey))
				message := KeyUpdateMessage(false)
				sendControl(t, fd, TypeHandshake, message[:])
				check(t, sealer.NextKey())
				check(t, sealer.GiveToKernel(fd))
				openAll(t, opener, readRecords(t, b, 1), TypeHandshake)
				check(t, opener.NextKey())
				_, err = a.Write(pattern(99))
				check(t, err)
				equal(t, s.Name, openAll(t, opener, readRecords(t, b, 1), TypeData), pattern(99))
			}
			if after := kernelStat(t); after[StatTXSoftware] != before[StatTXSoftware]+1 {
				t.Errorf("%s: TX in the kernel %d times, was %d", s.Name, after[StatTXSoftware], before[StatTXSoftware])
			}
		}
	}
}

// kernelStat reads the counters; before the module's first use there may be none.
func kernelStat(t testing.TB) KernelStat {
	t.Helper()
	stat, err := ReadKernelStat()
	if !errors.Is(err, os.ErrNotExist) {
		check(t, err)
	}
	return stat
}

// TestKernelOpens: what this package seals, the kernel opens.
func TestKernelOpens(t *testing.T) {
	needKernel(t)
	for _, s := range distinctSuites() {
		before := kernelStat(t)
		a, b, fd := sockets(t)
		mine, theirs := trafficOf(t, s, 3)
		sealer, err := NewSealer(mine, 5)
		check(t, err)
		opener, err := NewOpener(theirs, 5)
		check(t, err)
		check(t, EnableKernel(fd))
		check(t, opener.GiveToKernel(fd))
		if s.Version == TLS13 {
			check(t, SetExpectNoPad(fd, true))
		}
		memory := make([]byte, 40_000)
		round := func(typ ContentType, content []byte) {
			t.Helper()
			sealed, err := sealer.Seal(nil, typ, content)
			check(t, err)
			_, err = b.Write(sealed)
			check(t, err)
			var got []byte
			for len(got) < len(content) {
				n, kind, err := receive(t, a, memory)
				check(t, err)
				if kind != typ {
					t.Fatalf("%s: type %d, want %d", s.Name, kind, typ)
				}
				got = append(got, memory[:n]...)
			}
			equal(t, s.Name, got, content)
		}
		round(TypeData, pattern(30_000))
		round(TypeHandshake, pattern(50))
		round(TypeData, pattern(1))
		if s.Version == TLS13 {
			rec := make([]byte, sealer.Prefix()+10+100+sealer.Suffix())
			copy(rec[sealer.Prefix():], pattern(10))
			check(t, sealer.SealInPlace(rec, TypeData, 100))
			_, err = b.Write(rec)
			check(t, err)
			n, typ, err := receive(t, a, memory)
			check(t, err)
			if typ != TypeData {
				t.Errorf("%s: type %d", s.Name, typ)
			}
			equal(t, "padded", memory[:n], pattern(10))
			message := KeyUpdateMessage(false)
			round(TypeHandshake, message[:])
			check(t, sealer.NextKey())
			check(t, opener.NextKey())
			check(t, opener.GiveToKernel(fd))
			round(TypeData, pattern(20_000))
		}
		if after := kernelStat(t); after[StatRXSoftware] != before[StatRXSoftware]+1 || after[StatDecryptError] != before[StatDecryptError] {
			t.Errorf("%s: counters %v, were %v", s.Name, after, before)
		}
		check(t, b.Close())
		if n, typ, err := receive(t, a, memory); n != 0 || typ != TypeData || err != nil {
			t.Errorf("%s: %d, %d, %v at the end", s.Name, n, typ, err)
		}
	}
}

// TestKernelRefuses: a bad record is EBADMSG, and the alert can still be sent.
func TestKernelRefuses(t *testing.T) {
	needKernel(t)
	for _, s := range distinctSuites() {
		a, b, fd := sockets(t)
		mine, theirs := trafficOf(t, s, 3)
		sealer, err := NewSealer(mine, 0)
		check(t, err)
		opener, err := NewOpener(theirs, 0)
		check(t, err)
		out, outPeer := trafficOf(t, s, 4)
		back, err := NewSealer(out, 0)
		check(t, err)
		backOpener, err := NewOpener(outPeer, 0)
		check(t, err)
		check(t, EnableKernel(fd))
		check(t, opener.GiveToKernel(fd))
		check(t, back.GiveToKernel(fd))
		before := kernelStat(t)
		sealed, err := sealer.Seal(nil, TypeData, pattern(100))
		check(t, err)
		sealed[50] ^= 1
		_, err = b.Write(sealed)
		check(t, err)
		_, _, err = receive(t, a, make([]byte, 1000))
		if alertOf(KernelReadError(err)) != int(AlertBadRecordMAC) {
			t.Errorf("%s: %v", s.Name, err)
		}
		if after := kernelStat(t); after[StatDecryptError] != before[StatDecryptError]+1 {
			t.Errorf("%s: %d decrypt errors, were %d", s.Name, after[StatDecryptError], before[StatDecryptError])
		}
		check(t, ClearError(fd))
		alert := AlertBadRecordMAC.Content()
		sendControl(t, fd, TypeAlert, alert[:])
		equal(t, s.Name, openAll(t, backOpener, readRecords(t, b, 1), TypeAlert), alert[:])
	}
}

// TestKernelFragments: records are as short as agreed.
func TestKernelFragments(t *testing.T) {
	needKernel(t)
	if err := Have(FeatureMaxPayload); err != nil && !inGuest() {
		t.Skip(err)
	}
	for _, s := range distinctSuites() {
		a, b, fd := sockets(t)
		mine, theirs := trafficOf(t, s, 3)
		sealer, err := NewSealer(mine, 0)
		check(t, err)
		opener, err := NewOpener(theirs, 0)
		check(t, err)
		check(t, sealer.SetMaxPlaintext(512))
		opener.SetMaxPlaintext(512)
		check(t, EnableKernel(fd))
		check(t, sealer.GiveToKernel(fd))
		_, err = a.Write(pattern(1100))
		check(t, err)
		equal(t, s.Name, openAll(t, opener, readRecords(t, b, 3), TypeData), pattern(1100))
	}
}

func TestKernelErrors(t *testing.T) {
	a, b, fd := sockets(t)
	s := &suites[0]
	mine, _ := trafficOf(t, s, 3)
	sealer, err := NewSealer(mine, 0)
	check(t, err)
	var k *KernelError
	if err := sealer.GiveToKernel(fd); !errors.As(err, &k) || k.Op != "setsockopt TLS_TX" {
		t.Errorf("TLS_TX without TCP_ULP: %v", err)
	}
	needKernel(t)
	check(t, a.Close())
	check(t, b.Close())
	c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	defer unix.Close(c)
	if err := EnableKernel(c); !errors.Is(err, unix.ENOTCONN) {
		t.Errorf("a socket without a connection: %v", err)
	}
	for errno, alert := range map[unix.Errno]Alert{unix.EBADMSG: AlertBadRecordMAC, unix.EMSGSIZE: AlertRecordOverflow,
		unix.EINVAL: AlertProtocolVersion} {
		if alertOf(KernelReadError(errno)) != int(alert) {
			t.Errorf("%v is not %s", errno, alert)
		}
	}
	if KernelReadError(unix.ECONNRESET) != unix.ECONNRESET {
		t.Error("ECONNRESET is changed")
	}
}

func TestParseRecordType(t *testing.T) {
	get := RecordTypeControl(TypeAlert)
	binary.NativeEndian.PutUint32(get[cmsgWord+4:], cmsgGetRecordType)
	other := RecordTypeControl(9)
	for name, c := range map[string]struct {
		p    []byte
		want ContentType
	}{
		"nothing":         {nil, TypeData},
		"one":             {get, TypeAlert},
		"behind another":  {append(append([]byte(nil), other...), get...), TypeAlert},
		"another":         {other, TypeData},
		"without padding": {get[:unix.CmsgLen(1)], TypeAlert},
		"cut":             {get[:unix.CmsgLen(1)-1], TypeData},
	} {
		if got := ParseRecordType(c.p); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	long := append([]byte(nil), get...)
	long[0] = 200
	if ParseRecordType(long) != TypeData {
		t.Error("a length beyond its end is followed")
	}
}

func TestParseKernelStat(t *testing.T) {
	stat, err := ParseKernelStat([]byte("TlsCurrTxSw                     \t0\nTlsTxSw\t12\nTlsDecryptError 3\n"))
	check(t, err)
	if len(stat) != 3 || stat[StatTXSoftware] != 12 || stat[StatDecryptError] != 3 {
		t.Errorf("%v", stat)
	}
	for _, bad := range []string{"TlsTxSw\n", "TlsTxSw x\n", "TlsTxSw 1 2\n", "TlsTxSw -1\n"} {
		if _, err := ParseKernelStat([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
