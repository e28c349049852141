package ktls

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// captured are the suites that OpenSSL has, by its names, and what its server
// needs for them.
var captured = []struct {
	id    uint16
	name  string
	extra string
}{
	{0x1301, "TLS_AES_128_GCM_SHA256", ""}, {0x1302, "TLS_AES_256_GCM_SHA384", ""}, {0x1303, "TLS_CHACHA20_POLY1305_SHA256", ""},
	{0xC02B, "ECDHE-ECDSA-AES128-GCM-SHA256", ""}, {0xC02C, "ECDHE-ECDSA-AES256-GCM-SHA384", ""},
	{0xC02F, "ECDHE-RSA-AES128-GCM-SHA256", ""}, {0xC030, "ECDHE-RSA-AES256-GCM-SHA384", ""},
	{0xCCA8, "ECDHE-RSA-CHACHA20-POLY1305", ""}, {0xCCA9, "ECDHE-ECDSA-CHACHA20-POLY1305", ""},
	{0xCCAA, "DHE-RSA-CHACHA20-POLY1305", ""}, {0xCCAB, "PSK-CHACHA20-POLY1305", "psk"}, {0xCCAC, "ECDHE-PSK-CHACHA20-POLY1305", "psk"},
	{0xCCAD, "DHE-PSK-CHACHA20-POLY1305", "psk"}, {0xCCAE, "RSA-PSK-CHACHA20-POLY1305", "psk"},
	{0x009C, "AES128-GCM-SHA256", ""}, {0x009D, "AES256-GCM-SHA384", ""}, {0x009E, "DHE-RSA-AES128-GCM-SHA256", ""},
	{0x009F, "DHE-RSA-AES256-GCM-SHA384", ""}, {0x00A6, "ADH-AES128-GCM-SHA256", ""}, {0x00A7, "ADH-AES256-GCM-SHA384", ""},
	{0x00A8, "PSK-AES128-GCM-SHA256", "psk"}, {0x00A9, "PSK-AES256-GCM-SHA384", "psk"}, {0x00AA, "DHE-PSK-AES128-GCM-SHA256", "psk"},
	{0x00AB, "DHE-PSK-AES256-GCM-SHA384", "psk"}, {0x00AC, "RSA-PSK-AES128-GCM-SHA256", "psk"}, {0x00AD, "RSA-PSK-AES256-GCM-SHA384", "psk"},
}

// captureAll writes captureFile anew.
func captureAll(t *testing.T) {
	dir := t.TempDir()
	for _, key := range [][]string{{"rsa", "rsa:2048"}, {"ec", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"}} {
		args := append([]string{"req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout",
			filepath.Join(dir, key[0]+".key"), "-out", filepath.Join(dir, key[0]+".crt"), "-newkey"}, key[1:]...)
		if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	var list []capture
	for _, c := range captured {
		list = append(list, captureOne(t, dir, c.id, c.name, c.extra == "psk"))
	}
	text, err := json.MarshalIndent(list, "", " ")
	check(t, err)
	check(t, os.WriteFile(captureFile, append(text, '\n'), 0o644))
}

func captureOne(t *testing.T, dir string, id uint16, name string, psk bool) capture {
	t.Logf("capturing %s", name)
	keyLog := filepath.Join(dir, name+".keys")
	suite := []string{"-tls1_2", "-cipher", name + ":@SECLEVEL=0"}
	if strings.HasPrefix(name, "TLS_") {
		suite = []string{"-tls1_3", "-ciphersuites", name}
	}
	if psk {
		suite = append(suite, "-psk", "0123456789abcdef0123456789abcdef")
	}
	serverArgs := append([]string{"s_server", "-accept", "127.0.0.1:0", "-rev", "-naccept", "1", "-cert", filepath.Join(dir, "rsa.crt"),
		"-key", filepath.Join(dir, "rsa.key"), "-dcert", filepath.Join(dir, "ec.crt"), "-dkey", filepath.Join(dir, "ec.key")}, suite...)
	server := exec.Command("openssl", serverArgs...)
	out, err := server.StdoutPipe()
	check(t, err)
	check(t, server.Start())
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	lines := bufio.NewScanner(out)
	address := ""
	for address == "" && lines.Scan() {
		address, _ = strings.CutPrefix(lines.Text(), "ACCEPT ")
		if address == lines.Text() {
			address = ""
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	c := capture{Suite: id}
	var group sync.WaitGroup
	group.Go(func() { proxy(t, l, address, &c.FromC, &c.FromS) })
	runClient(t, append([]string{"s_client", "-connect", l.Addr().String(), "-keylogfile", keyLog}, suite...), strings.HasPrefix(name, "TLS_"))
	group.Wait()
	log, err := os.ReadFile(keyLog)
	check(t, err)
	c.KeyLog = string(log)
	return c
}

// runClient sends the line, with TLS 1.3 behind a key update, and quits once it
// is answered. A command counts only as the beginning of what s_client reads.
func runClient(t *testing.T, args []string, update bool) {
	client := exec.Command("openssl", args...)
	in, err := client.StdinPipe()
	check(t, err)
	out, both := io.Pipe()
	client.Stdout, client.Stderr = both, both
	check(t, client.Start())
	lines := bufio.NewScanner(out)
	await := func(text string) {
		for lines.Scan() && !strings.Contains(lines.Text(), text) {
		}
	}
	if update {
		_, err = io.WriteString(in, "K\n")
		check(t, err)
		await("KEYUPDATE")
	}
	_, err = io.WriteString(in, captureLine)
	check(t, err)
	await(strings.TrimSpace(captureBack))
	_, err = io.WriteString(in, "Q\n")
	check(t, err)
	go func() { _, _ = io.Copy(io.Discard, out) }()
	_ = client.Wait()
}

// proxy records one connection.
func proxy(t *testing.T, l net.Listener, address string, fromC, fromS *[]byte) {
	a, err := l.Accept()
	if err != nil {
		t.Error(err)
		return
	}
	b, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	var group sync.WaitGroup
	for _, way := range []struct {
		from, to net.Conn
		out      *[]byte
	}{{a, b, fromC}, {b, a, fromS}} {
		group.Go(func() {
			var recorded bytes.Buffer
			_, _ = io.Copy(io.MultiWriter(way.to, &recorded), way.from)
			_ = way.to.(*net.TCPConn).CloseWrite()
			*way.out = recorded.Bytes()
		})
	}
	group.Wait()
}
