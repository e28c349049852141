package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"kloop/core"
)

// serve runs an echo server for the time of the test and answers its address.
func serve(t *testing.T, c config) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ready := make(chan string, 1)
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, c, func(address string) { ready <- address }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	})
	select {
	case address := <-ready:
		return address
	case err := <-ended:
		ended <- err
		t.Fatalf("run ended at once: %v", err)
		return ""
	}
}

// exchange sends size bytes while it reads them back.
func exchange(t *testing.T, address string, size int) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = conn.Close() }()
	sent := make([]byte, size)
	random := rand.NewChaCha8([32]byte{byte(size)})
	_, _ = random.Read(sent)
	go func() {
		if _, err := conn.Write(sent); err != nil {
			t.Error(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Error(err)
		}
	}()
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Error(err)
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes sent, %d other bytes came back", len(sent), len(got))
	}
}

func TestEchoesEveryByte(t *testing.T) {
	for name, c := range map[string]config{
		"one loop":  {address: "127.0.0.1:0", loops: 1},
		"two loops": {address: "127.0.0.1:0", loops: 2},
		"IPv6":      {address: "[::1]:0", loops: 1},
		"SQPOLL":    {address: "127.0.0.1:0", loops: 1, uring: core.UringOptions{SQPoll: true, SQPollCPU: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			address := serve(t, c)
			var clients sync.WaitGroup
			for _, size := range []int{1, 1000, 100_000, 5 << 20, 5<<20 + 1} {
				clients.Go(func() { exchange(t, address, size) })
			}
			clients.Wait()
		})
	}
}

func TestAddressInUseIsAnError(t *testing.T) {
	address := serve(t, config{address: "127.0.0.1:0", loops: 1})
	err := run(context.Background(), config{address: address, loops: 1}, func(string) { t.Error("it runs") })
	if err == nil {
		t.Error("no error")
	}
}
