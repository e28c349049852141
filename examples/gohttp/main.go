// Command gohttp is net/http on package core: an HTTP server whose listener and connections
// are a loop's, and which fetches what it is asked for with a client whose connections are too.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"kloop/core"
)

// bodyMax bounds the body of a request, in bytes.
const bodyMax = 1 << 20

// headerTimeout bounds how long a client may take for its request's header.
const headerTimeout = 10 * time.Second

// shutdownTimeout bounds how long requests under way are waited for at the end.
const shutdownTimeout = 5 * time.Second

func main() {
	address := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *address, func(at net.Addr) { fmt.Println("listening on", at) }); err != nil {
		fmt.Fprintln(os.Stderr, "gohttp:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done. It calls ready with the address, once.
func run(ctx context.Context, address string, ready func(at net.Addr)) error {
	listener, err := core.Listen("tcp", address) // the only line that is not net/http's
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler(), ReadHeaderTimeout: headerTimeout}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	ready(listener.Addr())
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	err = server.Shutdown(last)
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// client is an http.Client over the background loop.
func client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: core.Dial}}
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintln(w, "hello", r.RemoteAddr)
	})
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMax))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = w.Write(body)
	})
	return mux
}
