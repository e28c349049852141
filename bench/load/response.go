package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

type parserState int

const (
	inHead parserState = iota
	inBody             // left bytes of Content-Length remain
	inChunkSize
	inChunk // left bytes of this chunk remain
	inChunkEnd
	inTrailer
)

const (
	maxHeadBytes = 64 << 10
	maxBodyBytes = 1 << 30
	statusOK     = "200"
)

// responseParser reads HTTP/1.1 responses (RFC 9112) that arrive in arbitrary
// pieces, and checks status and body as they come.
type responseParser struct {
	expect string // the body; empty: any

	state parserState
	line  []byte // a head or a line, as far as it has come
	left  int
	seen  int // body bytes of this response
}

var (
	errHead     = errors.New("malformed head")
	errNoLength = errors.New("neither Content-Length nor chunked")
)

// feed takes bytes. It answers true at the end of a response, and the bytes
// that follow it.
func (p *responseParser) feed(b []byte) (rest []byte, done bool, err error) {
	for len(b) > 0 && err == nil {
		switch p.state {
		case inHead:
			b, done, err = p.head(b)
		case inBody, inChunk:
			b, done, err = p.body(b)
		default:
			b, done, err = p.chunkLine(b)
		}
		if done {
			return b, true, p.finish(err)
		}
	}
	return nil, false, err
}

func (p *responseParser) finish(err error) error {
	if err == nil && p.expect != "" && p.seen != len(p.expect) {
		err = fmt.Errorf("body of %d bytes instead of %d", p.seen, len(p.expect))
	}
	p.state, p.line, p.left, p.seen = inHead, p.line[:0], 0, 0
	return err
}

// until moves bytes up to and including the separator to p.line, and answers
// true once it is there.
func (p *responseParser) until(b []byte, separator string) (rest []byte, found bool, err error) {
	before := len(p.line)
	p.line = append(p.line, b...)
	from := max(before-len(separator)+1, 0)
	i := bytes.Index(p.line[from:], []byte(separator))
	if i < 0 {
		if len(p.line) > maxHeadBytes {
			return nil, false, errHead
		}
		return nil, false, nil
	}
	end := from + i + len(separator)
	p.line = p.line[:end]
	return b[end-before:], true, nil
}

func (p *responseParser) head(b []byte) (rest []byte, done bool, err error) {
	rest, found, err := p.until(b, "\r\n\r\n")
	if !found || err != nil {
		return rest, false, err
	}
	length, chunked, err := parseHead(string(p.line))
	p.line = p.line[:0]
	switch {
	case err != nil:
		return nil, false, err
	case chunked:
		p.state = inChunkSize
	default:
		p.state, p.left = inBody, length
		done = length == 0
	}
	return rest, done, nil
}

// parseHead checks the status and answers how the body is framed.
func parseHead(head string) (length int, chunked bool, err error) {
	lines := strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")
	version, status, ok := strings.Cut(lines[0], " ")
	if !ok || !strings.HasPrefix(version, "HTTP/1.") || len(status) < len(statusOK) {
		return 0, false, errHead
	}
	if status[:len(statusOK)] != statusOK {
		return 0, false, fmt.Errorf("status %s", status)
	}
	length = -1
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return 0, false, errHead
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "content-length":
			if length, err = strconv.Atoi(value); err != nil || length < 0 || length > maxBodyBytes {
				return 0, false, fmt.Errorf("content-length %q", value)
			}
		case "connection":
			if strings.EqualFold(value, "close") {
				return 0, false, errors.New("connection: close, keep-alive was asked for")
			}
		case "transfer-encoding":
			if !strings.EqualFold(value, "chunked") {
				return 0, false, fmt.Errorf("transfer-encoding %q", value)
			}
			chunked = true
		}
	}
	if length < 0 && !chunked {
		return 0, false, errNoLength
	}
	return length, chunked, nil
}

// body checks bytes of a body or of a chunk.
func (p *responseParser) body(b []byte) (rest []byte, done bool, err error) {
	n := min(len(b), p.left)
	if p.expect != "" {
		if p.seen+n > len(p.expect) || p.expect[p.seen:p.seen+n] != string(b[:n]) {
			return nil, false, fmt.Errorf("wrong body between byte %d and %d", p.seen, p.seen+n)
		}
	}
	p.seen += n
	p.left -= n
	if p.seen > maxBodyBytes {
		return nil, false, fmt.Errorf("body of more than %d bytes", maxBodyBytes)
	}
	if p.left == 0 {
		if p.state == inBody {
			return b[n:], true, nil
		}
		p.state = inChunkEnd
	}
	return b[n:], false, nil
}

// chunkLine reads what stands between chunks, one line at a time.
func (p *responseParser) chunkLine(b []byte) (rest []byte, done bool, err error) {
	rest, found, err := p.until(b, "\r\n")
	if !found || err != nil {
		return rest, false, err
	}
	line := string(p.line[:len(p.line)-len("\r\n")])
	p.line = p.line[:0]
	switch p.state {
	case inChunkEnd:
		if line != "" {
			return nil, false, fmt.Errorf("%q behind a chunk", line)
		}
		p.state = inChunkSize
	case inTrailer:
		return rest, line == "", nil
	case inChunkSize:
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 31)
		if err != nil {
			return nil, false, fmt.Errorf("chunk size %q", line)
		}
		p.left, p.state = int(n), inChunk
		if n == 0 {
			p.state = inTrailer
		}
	}
	return rest, false, nil
}
