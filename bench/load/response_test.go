package main

import (
	"strings"
	"testing"
)

func TestResponses(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	chunked := ok + "transfer-encoding: chunked\r\n\r\n"
	for _, c := range []struct{ name, in, expect, fault string }{
		{"length", ok + "Content-Length: 5\r\n\r\nhello", "hello", ""},
		{"any body", ok + "Content-Length: 5\r\n\r\nhello", "", ""},
		{"empty body", ok + "Content-Length: 0\r\n\r\n", "", ""},
		{"chunks", chunked + "3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", "hello", ""},
		{"trailer", chunked + "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", "hello", ""},
		{"status", "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "", "status 500"},
		{"not http", "SSH-2.0-x\r\n\r\n", "", "malformed head"},
		{"no length", ok + "Server: x\r\n\r\nhello", "", "neither"},
		{"bad length", ok + "Content-Length: -1\r\n\r\n", "", "content-length"},
		{"no keep-alive", ok + "Connection: close\r\nContent-Length: 0\r\n\r\n", "", "keep-alive"},
		{"bad chunk", chunked + "zz\r\n", "", "chunk size"},
		{"no end of chunk", chunked + "1\r\nab\r\n", "", "behind a chunk"},
		{"other coding", ok + "Transfer-Encoding: gzip\r\n\r\n", "", "transfer-encoding"},
		{"wrong body", ok + "Content-Length: 5\r\n\r\nhallo", "hello", "wrong body"},
		{"short body", ok + "Content-Length: 4\r\n\r\nhell", "hello", "body of 4 bytes"},
		{"long body", ok + "Content-Length: 6\r\n\r\nhellos", "hello", "wrong body"},
	} {
		for _, piece := range []int{1, 2, 3, 7, len(c.in)} {
			done, err := parsePieces(c.in, c.expect, piece)
			switch {
			case c.fault == "" && (err != nil || !done):
				t.Errorf("%s in pieces of %d: done %v, %v", c.name, piece, done, err)
			case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
				t.Errorf("%s in pieces of %d: %v, want %q", c.name, piece, err, c.fault)
			}
		}
	}
}

func parsePieces(in, expect string, piece int) (done bool, err error) {
	p := responseParser{expect: expect}
	for len(in) > 0 && err == nil && !done {
		n := min(piece, len(in))
		_, done, err = p.feed([]byte(in[:n]))
		in = in[n:]
	}
	return done, err
}

func TestTwoResponsesInOneRead(t *testing.T) {
	one := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"
	p := responseParser{expect: "ab"}
	rest, done, err := p.feed([]byte(one + one))
	if !done || err != nil || string(rest) != one {
		t.Fatalf("first: %q, %v, %v", rest, done, err)
	}
	if rest, done, err = p.feed(rest); !done || err != nil || len(rest) != 0 {
		t.Fatalf("second: %q, %v, %v", rest, done, err)
	}
}

func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"), 3)
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"), 1)
	f.Fuzz(func(t *testing.T, in []byte, piece int) {
		if piece < 1 || piece > len(in) {
			return
		}
		done1, err1 := parsePieces(string(in), "", len(in))
		done2, err2 := parsePieces(string(in), "", piece)
		if done1 != done2 || (err1 == nil) != (err2 == nil) {
			t.Errorf("whole: %v, %v; in pieces of %d: %v, %v", done1, err1, piece, done2, err2)
		}
	})
}
