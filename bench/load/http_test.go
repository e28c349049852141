package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func runTestHTTP(t *testing.T, engine string, handler http.HandlerFunc, expect string) *result {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	l := limits{addr: strings.TrimPrefix(server.URL, "http://"), conns: 10, stall: 500 * time.Millisecond}
	l.warmup, l.duration = 20*time.Millisecond, 200*time.Millisecond
	l.engine = engine
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := newHTTPClient(l, "/path?q=1", expect)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.run(c, finished); err != nil {
		t.Fatal(err)
	}
	r := c.result
	if err := c.engine.close(); err != nil {
		t.Fatal(err)
	}
	return &r
}

func TestHTTP(t *testing.T) {
	large := strings.Repeat("0123456789", 20_000)
	for name, handler := range map[string]http.HandlerFunc{
		"length": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "200000")
			io.WriteString(w, large)
		},
		"chunked": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.String() != "/path?q=1" {
				http.NotFound(w, r)
				return
			}
			io.WriteString(w, large[:5])
			w.(http.Flusher).Flush()
			io.WriteString(w, large[5:])
		},
	} {
		for _, engine := range engines(t) {
			t.Run(engine+" "+name, func(t *testing.T) {
				r := runTestHTTP(t, engine, handler, large)
				if r.failed() || r.Messages == 0 {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}

func TestHTTPFaultsAreSeen(t *testing.T) {
	var served atomic.Int64
	later := func() bool { return served.Add(1) > 50 }
	for _, f := range []struct {
		text    string
		handler http.HandlerFunc
	}{
		{"status 503", func(w http.ResponseWriter, _ *http.Request) {
			if later() {
				http.Error(w, "no", http.StatusServiceUnavailable)
				return
			}
			io.WriteString(w, "yes")
		}},
		{"wrong body", func(w http.ResponseWriter, _ *http.Request) {
			if later() {
				io.WriteString(w, "yEs")
				return
			}
			io.WriteString(w, "yes")
		}},
		{"without progress", func(w http.ResponseWriter, r *http.Request) {
			if later() {
				<-r.Context().Done()
			}
			io.WriteString(w, "yes")
		}},
		{"connection: close", func(w http.ResponseWriter, _ *http.Request) {
			if later() {
				w.Header().Set("Connection", "close")
			}
			io.WriteString(w, "yes")
		}},
	} {
		for _, engine := range engines(t) {
			served.Store(0)
			t.Run(engine+" "+f.text, func(t *testing.T) {
				r := runTestHTTP(t, engine, f.handler, "yes")
				if !strings.Contains(r.FirstError, f.text) {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}
