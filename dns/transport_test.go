package dns

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tunOf makes a TUN interface of this type (ARPHRD_, linux/if_arp.h), which is there until the test ends.
func tunOf(t *testing.T, name string, kind int) {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("SKIPPED: no TUN devices here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(request))); errno != 0 {
		t.Skipf("SKIPPED: no TUN devices here: %v", errno)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETLINK, kind); err != nil {
		t.Fatal(err)
	}
}

// reached are addresses by how they are: of each kind one that comes before it in the hosts file is worse.
var reached = map[string]struct{ address4, address6 string }{
	"sit":        {"10.1.0.9", "fd01::9"},
	"tunnel":     {"10.2.0.9", "fd02::9"},
	"tunnel6":    {"10.3.0.9", "fd03::9"},
	"native":     {"10.4.0.9", "fd04::9"},
	"deprecated": {"10.5.0.9", "fd05::9"},
	"peer":       {"10.6.0.9", "fd06::9"},
	"other":      {"10.7.0.9", "fd07::9"},
	"home":       {"10.8.0.9", "fd08::9"},
	"nowhere":    {"192.0.2.9", "2001:db8::9"},
}

// Where addresses differ by the interface they are reached through, or by the state of the source address, the order is libc's:
// rules 3, 4 and 7 of RFC 6724 section 6.
func TestOrderByTransportAsLibcDoes(t *testing.T) {
	hosts := "127.0.0.1 localhost\n"
	for one, a := range reached {
		for other, b := range reached {
			if one != other {
				hosts += fmt.Sprintf("%[1]s %[5]s-%[6]s\n%[2]s %[5]s-%[6]s\n%[3]s %[5]s-%[6]s\n%[4]s %[5]s-%[6]s\n",
					a.address4, b.address4, a.address6, b.address6, one, other)
			}
		}
	}
	for _, a := range reached { // in some order
		hosts += a.address4 + " all\n" + a.address6 + " all\n"
	}
	if os.Getenv(insideVariable) == "" {
		outside(t, map[string]string{"hosts": hosts, "nsswitch.conf": "hosts: files\n", "gai.conf": "#\n", "resolv.conf": "#\n", "host.conf": "multi on\n"}, "")
		return
	}
	setup := "set -e\n"
	for i, kind := range []int{unix.ARPHRD_SIT, unix.ARPHRD_TUNNEL, unix.ARPHRD_TUNNEL6, unix.ARPHRD_NONE, unix.ARPHRD_NONE, unix.ARPHRD_NONE, unix.ARPHRD_ETHER, unix.ARPHRD_NONE} {
		name := fmt.Sprintf("kl%d", i+1)
		tunOf(t, name, kind)
		states4, states6 := "", ""
		switch i + 1 {
		case 5:
			states4, states6 = "preferred_lft 0", "preferred_lft 0"
		case 6:
			states4, states6 = "peer 10.6.0.2/24", "peer fd06::2/64"
		case 8:
			states6 = "home"
		}
		setup += fmt.Sprintf("ip link set %[1]s up\nip addr add 10.%[2]d.0.1%[3]s dev %[1]s %[4]s\nip addr add fd0%[2]d::1%[5]s dev %[1]s nodad %[6]s\n",
			name, i+1, prefixUnless(states4, "/24"), states4, prefixUnless(states6, "/64"), states6)
	}
	if output, err := exec.Command("sh", "-c", setup).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	names := map[string]bool{}
	for line := range strings.Lines(hostsText(t)) {
		names[strings.Fields(line)[1]] = true
	}
	var cases []gaiCase
	for name := range names {
		for _, family := range []int{0, unix.AF_INET, unix.AF_INET6} {
			cases = append(cases, gaiCase{&name, nil, family, 1, 0, 0})
		}
	}
	wantNative(t, cases)
	compareCases(t, cases)
}

// prefixUnless is a prefix's length, but for an address whose peer has it.
func prefixUnless(state, prefix string) string {
	if strings.HasPrefix(state, "peer") {
		return ""
	}
	return prefix
}

func hostsText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(HostsPath)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wantNative checks that libc itself prefers native transport here, so that the comparison says something.
func wantNative(t *testing.T, cases []gaiCase) {
	t.Helper()
	name := "tunnel-native"
	answer := askOracle(t, []gaiCase{{&name, nil, unix.AF_INET, 1, 0, 0}})[0]
	text, _ := json.Marshal(answer.Results)
	if first := strings.Index(string(text), "10.4.0.9"); first < 0 || first > strings.Index(string(text), "10.2.0.9") {
		t.Errorf("libc: %s (of %d cases)", text, len(cases))
	}
}
