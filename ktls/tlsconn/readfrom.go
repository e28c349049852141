package tlsconn

import (
	"io"
	"net"
	"os"

	"kloop/ktls"
)

// fileStep is how much of a file one sendfile sends while other writers wait.
const fileStep = 1 << 20

// ReadFrom writes what r has. It is read into the memory it is sealed in. Where
// the kernel seals, a file is sent by sendfile(2).
func (c *Conn) ReadFrom(r io.Reader) (written int64, err error) {
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	if t := c.tls.Load(); t != nil {
		return io.Copy(struct{ io.Writer }{t}, r)
	}
	if _, isFile := r.(*os.File); isFile && c.out.kernel {
		return c.sendFile(r)
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	s := c.out.sealer // what is asked of it here does not change
	if size := s.Prefix() + s.MaxPlaintext() + s.Suffix(); cap(*buffer) < size {
		*buffer = make([]byte, size)
	}
	memory := (*buffer)[:cap(*buffer)]
	plain := memory[s.Prefix() : s.Prefix()+s.MaxPlaintext()]
	for {
		n, readErr := r.Read(plain)
		if n > 0 {
			if err := c.writeFrom(memory[:s.Prefix()+n+s.Suffix()], plain[:n]); err != nil {
				return written, err
			}
			written += int64(n)
		}
		if readErr == io.EOF {
			return written, nil
		}
		if readErr != nil {
			return written, readErr
		}
	}
}

// writeFrom writes one record, whose plaintext is in place.
func (c *Conn) writeFrom(record, plain []byte) error {
	c.out.mu.Lock()
	defer c.unlockOut()
	if err := c.writable(); err != nil {
		return err
	}
	if c.out.kernel {
		_, err := c.writeKernel(plain)
		return err
	}
	err := c.out.sealer.SealInPlace(record, ktls.TypeData, 0)
	if err == nil {
		_, err = c.raw.Write(record)
	}
	return c.failWrite(err)
}

// sendFile has the kernel read, seal and send a file.
func (c *Conn) sendFile(file io.Reader) (written int64, err error) {
	for {
		n, err := c.sendFilePart(&io.LimitedReader{R: file, N: fileStep})
		written += n
		if err != nil || n < fileStep {
			return written, err
		}
	}
}

func (c *Conn) sendFilePart(part io.Reader) (int64, error) {
	c.out.mu.Lock()
	defer c.unlockOut()
	if err := c.writable(); err != nil {
		return 0, err
	}
	n, err := c.raw.(*net.TCPConn).ReadFrom(part)
	c.out.sealer.Advance(uint64(n/ktls.MaxPlaintext + 1))
	return n, err
}
