package dns

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"kloop/core"
	"kloop/ktls/tlsconn"
)

// Paths of the files that libc reads.
const (
	ResolvConfPath = "/etc/resolv.conf"
	HostsPath      = "/etc/hosts"
	ServicesPath   = "/etc/services"
	NSSwitchPath   = "/etc/nsswitch.conf"
	GAIConfPath    = "/etc/gai.conf"
	HostConfPath   = "/etc/host.conf"
)

// Config says how to make a Resolver. Start from [DefaultConfig] or [SystemConfig]: the zero
// value knows no files and keeps no cache.
type Config struct {
	// File is a resolv.conf that is read by New and Reload, and when it changes; Servers and
	// all else in ResolvConf are then what it says. "": they are what this Config says.
	File string
	// Environment has LOCALDOMAIN and RES_OPTIONS looked at, with every reading of File.
	Environment bool
	ResolvConf
	// Adjust changes what File and the environment have said, with every reading; nil: nothing.
	Adjust func(*ResolvConf)

	// Paths of the other files; "": an empty file.
	Hosts, Services, NSSwitch, GAIConf, HostConf string

	// Loop does the I/O; nil: the background loop of the process.
	Loop *core.Loop

	// CacheEntries bounds the cache, in answers; 0: no cache. The one that was not used for
	// longest leaves first.
	CacheEntries int
	// MaxTTL bounds how long an answer is kept, whatever its TTL says; MaxNegativeTTL how
	// long it is that there is none (RFC 2308 section 5).
	MaxTTL, MaxNegativeTTL time.Duration
	// ServeStale is how long past its TTL an answer is kept for the case that no server can be
	// reached, or that none answers within 1.8 s (RFC 8767); 0: not at all.
	ServeStale time.Duration

	// Concurrency bounds the questions that are asked at a time; others wait in order. Queue
	// bounds how many do.
	Concurrency, Queue int

	// KeepCase asks with names as they are given. By default their letters' case is random,
	// and must come back as it was sent: 0x20, draft-vixie-dnsext-dns0x20.
	KeepCase bool

	// TLS has the servers asked by DNS over TLS (RFC 7858), at port 853 where Servers says
	// 53. Its ServerName is what the servers' certificates must name; "": their addresses.
	// nil: UDP and TCP.
	TLS *tls.Config

	// TLSRecords says who protects the records of these connections once crypto/tls has made the
	// handshake: tlsconn.TLS; or tlsconn.Go, which is "" too: package ktls, if it knows the suite.
	TLSRecords string
}

// DefaultConfig asks no server that it was not told of, and reads no file.
func DefaultConfig() Config {
	return Config{
		ResolvConf:     DefaultResolvConf(),
		CacheEntries:   10_000,
		MaxTTL:         24 * time.Hour,
		MaxNegativeTTL: time.Hour,
		Concurrency:    256,
		Queue:          100_000,
	}
}

// SystemConfig does what the files in /etc and the environment say.
func SystemConfig() Config {
	c := DefaultConfig()
	c.File, c.Environment = ResolvConfPath, true
	c.Hosts, c.Services, c.NSSwitch, c.GAIConf = HostsPath, ServicesPath, NSSwitchPath, GAIConfPath
	c.HostConf = HostConfPath
	return c
}

func (c *Config) check() error {
	switch {
	case !slices.Contains([]string{"", tlsconn.Go, tlsconn.TLS}, c.TLSRecords):
		return fmt.Errorf("dns: TLSRecords is %q: give %q or %q", c.TLSRecords, tlsconn.Go, tlsconn.TLS)
	case c.Concurrency < 1:
		return errors.New("dns: Concurrency must be at least 1")
	case c.Queue < 0, c.CacheEntries < 0, c.MaxTTL < 0, c.MaxNegativeTTL < 0, c.ServeStale < 0:
		return errors.New("dns: a bound is negative")
	case c.File != "":
		return nil
	case c.Timeout <= 0 || c.Attempts < 1 || c.Ndots < 0:
		return errors.New("dns: Timeout and Attempts must be positive, Ndots not negative")
	}
	return nil
}

// systemFile is libc's own; a test has another.
var systemFile = "/etc/resolv.conf"

// readResolvConf answers what applies now. A file that is not there is an empty one, as for libc, and
// so is the system's where it may not be read. One that somebody has named is an error then.
func (c *Config) readResolvConf(from disk) (ResolvConf, error) {
	conf := c.ResolvConf
	if c.File != "" {
		text, err := from.read(c.File)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !(c.File == systemFile && isUnreadable(err)) {
			return conf, fmt.Errorf("dns: %w", err)
		}
		conf = ParseResolvConf(string(text))
		if conf.Search == nil {
			conf.Search = defaultSearch()
		}
	}
	if c.Environment {
		conf.ApplyEnvironment(os.Getenv("LOCALDOMAIN"), os.Getenv("RES_OPTIONS"))
	}
	if c.Adjust != nil {
		c.Adjust(&conf)
	}
	if len(conf.Servers) == 0 {
		conf.Servers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort)}
	}
	return conf, nil
}
