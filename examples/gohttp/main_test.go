package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// serve runs the server for the time of the test and answers its address.
func serve(t *testing.T) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() { ended <- run(ctx, "127.0.0.1:0", func(at net.Addr) { ready <- at }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	select {
	case at := <-ready:
		return "http://" + at.String()
	case err := <-ended:
		ended <- err
		t.Fatalf("run ended at once: %v", err)
		return ""
	}
}

func TestServesAndFetches(t *testing.T) {
	url := serve(t)
	for name, c := range map[string]*http.Client{"ours": client(), "net's": {Transport: &http.Transport{}}} {
		t.Run(name, func(t *testing.T) {
			defer c.CloseIdleConnections()
			answer, err := c.Get(url + "/hello")
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if err != nil || !strings.HasPrefix(string(text), "hello 127.0.0.1:") {
				t.Errorf("%q, %v", text, err)
			}
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() { echo(t, c, url, i) })
			}
			all.Wait()
		})
	}
}

// echo posts some bytes, a few times over, and wants them back.
func echo(t *testing.T, c *http.Client, url string, seed int) {
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	for range 20 {
		sent := make([]byte, random.IntN(300_000))
		for i := range sent {
			sent[i] = byte(random.Uint32())
		}
		answer, err := c.Post(url+"/echo", "application/octet-stream", bytes.NewReader(sent))
		if err != nil {
			t.Error(err)
			return
		}
		got, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes of %d came back, %v", len(got), len(sent), err)
		}
	}
}

// Clients that go away in the middle of a request harm nobody else.
func TestClientsThatLeave(t *testing.T) {
	url := serve(t)
	c := client()
	defer c.CloseIdleConnections()
	for range 20 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n%s", strings.Repeat("x", 1000)); err != nil {
			t.Fatal(err)
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
	echo(t, c, url, 1)
}
