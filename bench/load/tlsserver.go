package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"
)

// runTLSServer is the peer of a client under test that makes connections: an echo server on
// crypto/tls, with the certificate that is in a folder. It prints its port and serves until
// standard input ends.
func runTLSServer(args []string) error {
	f := flag.NewFlagSet("tlsserver", flag.ExitOnError)
	folder := f.String("folder", ".", "where cert.pem and key.pem are")
	limit := f.Duration("limit", serverLimit, "end after this time in any case")
	f.Parse(args)
	debug.SetGCPercent(handshakeGCPercent)
	listener, err := listenTLS(*folder)
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go serveTLS(listener)
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		ended <- err
	}()
	select {
	case err = <-ended:
	case <-time.After(*limit):
	}
	return err
}

func listenTLS(folder string) (net.Listener, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(folder, certificateFile), filepath.Join(folder, keyFile))
	if err != nil {
		return nil, err
	}
	return tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates:     []tls.Certificate{pair},
		MinVersion:       tls.VersionTLS13,
		CurvePreferences: curves,
	})
}

// serveTLS echoes until the listener is closed. What goes wrong with a connection is for the
// client to see.
func serveTLS(listener net.Listener) {
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buffer := make([]byte, minRingBuffer)
			for {
				n, err := c.Read(buffer)
				if err != nil {
					return
				}
				if _, err := c.Write(buffer[:n]); err != nil {
					return
				}
			}
		}()
	}
}
