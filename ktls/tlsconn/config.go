package tlsconn

import (
	"crypto/tls"
	"errors"
	"net"
	"runtime"
)

// Where records are protected.
const (
	Auto   = ""       // Kernel where it can, else Go, else TLS
	Kernel = "kernel" // the kernel's TLS
	Go     = "go"     // package ktls
	TLS    = "tls"    // crypto/tls, as without this package
)

// Options say what is taken over.
type Options struct {
	// Records is Auto, Kernel, Go or TLS. With Kernel, what the kernel has not
	// stays with crypto/tls; what it refuses at last, such as the connection of a
	// peer that has gone, is protected in Go.
	Records string
	// Workers is how many goroutines seal one large write. 0: as many as
	// GOMAXPROCS, but 4 at most; 1: none.
	Workers int
}

// Offload says where a connection's records are protected.
type Offload struct {
	TX, RX string // Kernel, Go or TLS
	// Why says why it is not better: an *ktls.UnsupportedError, an error that
	// matches ktls.ErrNotSupported, or another of the kernel's. It is nil if both
	// directions are where Options.Records wants them.
	Why error
}

// Config makes connections.
type Config struct {
	base    *tls.Config
	armed   *tls.Config // for servers: base, with the key log of each connection
	options Options
}

// ErrRecords says that Options.Records is none of the constants.
var ErrRecords = errors.New(`tlsconn: Options.Records must be "", "kernel", "go" or "tls"`)

// maxWorkers: more goroutines than this are rarely idle at once.
const maxWorkers = 4

// NewConfig makes one from a tls.Config, which is cloned. Connections of one
// Config share what those of one tls.Config do, such as session ticket keys.
func NewConfig(c *tls.Config, o Options) (*Config, error) {
	switch o.Records {
	case Auto, Kernel, Go, TLS:
	default:
		return nil, ErrRecords
	}
	if o.Workers <= 0 {
		o.Workers = min(maxWorkers, runtime.GOMAXPROCS(0))
	}
	if c == nil {
		c = &tls.Config{}
	}
	config := &Config{base: c.Clone(), options: o}
	config.armed = config.base.Clone()
	config.armed.GetConfigForClient = config.forClient
	return config, nil
}

// forClient answers the configuration of one accepted connection: the user's,
// and the connection's own key log. A key log that connections share would have
// to tell them apart by client_random, which a peer may repeat.
func (c *Config) forClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	t := hello.Conn.(*tap)
	config := c.base
	if config.GetConfigForClient != nil {
		own := *hello
		own.Conn = t.Conn
		chosen, err := config.GetConfigForClient(&own)
		if err != nil {
			return nil, err
		}
		if chosen != nil {
			config = chosen
		}
	}
	return t.arm(config), nil
}

// arm answers the configuration with the connection's key log.
func (t *tap) arm(c *tls.Config) *tls.Config {
	c = c.Clone()
	t.log.also = c.KeyLogWriter
	c.KeyLogWriter = &t.log
	return c
}

// Server answers the server's side of a connection. The handshake is made by the
// first Read or Write, or by HandshakeContext.
func (c *Config) Server(nc net.Conn) *Conn {
	t := newTap(nc, false)
	config := c.armed
	if c.options.Records == TLS {
		config = c.base
	}
	conn := &Conn{raw: nc, tap: t, options: c.options}
	conn.tls.Store(tls.Server(t, config))
	return conn
}

// Client answers the client's side of a connection. As for tls.Client, the
// configuration must have ServerName or InsecureSkipVerify.
func (c *Config) Client(nc net.Conn) *Conn {
	t := newTap(nc, true)
	config := c.base
	if c.options.Records != TLS {
		config = t.arm(config)
	}
	conn := &Conn{raw: nc, tap: t, options: c.options, client: true}
	conn.tls.Store(tls.Client(t, config))
	return conn
}

// listener makes each accepted connection a *Conn.
type listener struct {
	net.Listener
	config *Config
}

// NewListener answers a listener whose connections are those of inner, as
// servers. They are *Conn.
func NewListener(inner net.Listener, c *Config) net.Listener { return &listener{inner, c} }

func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.config.Server(nc), nil
}
