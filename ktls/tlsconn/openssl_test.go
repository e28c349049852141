package tlsconn

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// opensslSuites are by OpenSSL's names: all of TLS 1.3, and one of TLS 1.2 for
// each AEAD. (What ktls captured of OpenSSL has all others.)
var opensslSuites = []string{"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
	"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"}

func suiteArgs(name string) []string {
	if strings.HasPrefix(name, "TLS_") {
		return []string{"-tls1_3", "-ciphersuites", name}
	}
	return []string{"-tls1_2", "-cipher", name}
}

// pemFiles writes the certificates where openssl reads them.
func pemFiles(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, c := range map[string]tls.Certificate{"ecdsa": certificates().ecdsa, "rsa": certificates().rsa} {
		key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		check(t, err)
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
		check(t, os.WriteFile(filepath.Join(dir, name+".pem"), text, 0o600))
	}
	return dir
}

// process starts openssl; lines are its standard output and error.
func process(t *testing.T, args ...string) (in io.WriteCloser, await func(text string)) {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	in, err := cmd.StdinPipe()
	check(t, err)
	out, both, err := os.Pipe()
	check(t, err)
	cmd.Stdout, cmd.Stderr = both, both
	check(t, cmd.Start())
	both.Close()
	timer := time.AfterFunc(testLimit, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		timer.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		out.Close()
	})
	lines := bufio.NewReader(out)
	return in, func(text string) {
		t.Helper()
		for {
			line, err := lines.ReadString('\n')
			if strings.Contains(line, text) {
				return
			}
			if err != nil {
				t.Fatalf("openssl ended before %q", text)
			}
		}
	}
}

// TestOpenSSLClient: this package serves s_client, which updates its keys twice.
func TestOpenSSLClient(t *testing.T) {
	for _, mode := range modes() {
		for _, name := range opensslSuites {
			t.Run(mode+"/"+name, func(t *testing.T) {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				check(t, err)
				serverConfig, _ := configs(0)
				config, err := NewConfig(serverConfig, Options{Records: mode})
				check(t, err)
				listener := NewListener(l, config)
				defer listener.Close()
				in, await := process(t, append([]string{"s_client", "-connect", l.Addr().String()}, suiteArgs(name)...)...)
				nc, err := listener.Accept()
				check(t, err)
				c := nc.(*Conn)
				defer c.Close()
				check(t, c.SetDeadline(time.Now().Add(testLimit)))
				check(t, c.Handshake())
				if o := c.Offload(); o.TX != mode || o.RX != mode {
					t.Fatalf("%+v", o)
				}
				reader := bufio.NewReader(c)
				for round := range 3 {
					if strings.HasPrefix(name, "TLS_") {
						command := []string{"k\n", "K\n", "K\n"}[round] // K asks for an update, k does not
						_, err = io.WriteString(in, command)
						check(t, err)
						await("KEYUPDATE")
					}
					sent := fmt.Sprintf("line %d of the client\n", round)
					_, err = io.WriteString(in, sent)
					check(t, err)
					got, err := reader.ReadString('\n')
					check(t, err)
					equal(t, "line", []byte(got), []byte(sent))
					back := fmt.Sprintf("answer %d\n", round)
					_, err = io.WriteString(c, back)
					check(t, err)
					await(strings.TrimSpace(back))
				}
				_, err = io.WriteString(in, "Q\n")
				check(t, err)
				atEnd(t, reader)
			})
		}
	}
}

// TestOpenSSLServer: this package is s_server's client.
func TestOpenSSLServer(t *testing.T) {
	dir := pemFiles(t)
	for _, mode := range modes() {
		for _, name := range opensslSuites {
			t.Run(mode+"/"+name, func(t *testing.T) {
				args := append([]string{"s_server", "-accept", "127.0.0.1:0", "-rev", "-naccept", "2",
					"-cert", filepath.Join(dir, "rsa.pem"), "-dcert", filepath.Join(dir, "ecdsa.pem")}, suiteArgs(name)...)
				cmd := exec.Command("openssl", args...)
				out, err := cmd.StdoutPipe()
				check(t, err)
				check(t, cmd.Start())
				defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
				address := ""
				for lines := bufio.NewScanner(out); address == "" && lines.Scan(); {
					if a, ok := strings.CutPrefix(lines.Text(), "ACCEPT "); ok {
						address = a
					}
				}
				go func() { _, _ = io.Copy(io.Discard, out) }()
				_, clientConfig := configs(0)
				clientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(4)
				config, err := NewConfig(clientConfig, Options{Records: mode})
				check(t, err)
				tls13 := strings.HasPrefix(name, "TLS_")
				for connection := range 2 {
					nc, err := net.Dial("tcp", address)
					check(t, err)
					c := config.Client(nc)
					check(t, c.SetDeadline(time.Now().Add(testLimit)))
					check(t, c.Handshake())
					if c.ConnectionState().DidResume != (connection > 0) {
						t.Errorf("connection %d resumes: %v", connection, c.ConnectionState().DidResume)
					}
					if o := c.Offload(); (tls13 || connection == 0) && (o.TX != mode || o.RX != mode) {
						t.Fatalf("%+v", o)
					}
					reader := bufio.NewReader(c)
					for round := range 2 { // s_server -rev sleeps for a second after each key update
						if tls13 {
							check(t, c.UpdateKey(round > 0))
						}
						_, err = fmt.Fprintf(c, "ab%d\n", round)
						check(t, err)
						got, err := reader.ReadString('\n')
						check(t, err)
						equal(t, "reversed", []byte(got), fmt.Appendf(nil, "%dba\n", round))
					}
					check(t, c.Close())
				}
			})
		}
	}
}
