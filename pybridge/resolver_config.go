package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"kloop/dns"
)

// A resolver's configuration comes as lines of a name and a value, with a space in between. What of resolv.conf is named
// counts more than the file and the environment, with every reading of them; what is not named is dns.DefaultConfig's.

// setting reads one value.
type setting func(c *configured, value string) error

// configured is a configuration in the making.
type configured struct {
	dns.Config
	localDomain, resOptions string
	adjust                  []func(*dns.ResolvConf)
}

var settings = map[string]setting{
	"file": func(c *configured, v string) error { c.File = v; return nil },
	// The variables come from the host: Go's are those of the moment in which its runtime began.
	"LOCALDOMAIN": func(c *configured, v string) error { c.localDomain = v; return nil },
	"RES_OPTIONS": func(c *configured, v string) error { c.resOptions = v; return nil },
	"hosts":       func(c *configured, v string) error { c.Hosts = v; return nil },
	"services":    func(c *configured, v string) error { c.Services = v; return nil },
	"nsswitch":    func(c *configured, v string) error { c.NSSwitch = v; return nil },
	"gai_conf":    func(c *configured, v string) error { c.GAIConf = v; return nil },
	"host_conf":   func(c *configured, v string) error { c.HostConf = v; return nil },

	"cache_entries":    func(c *configured, v string) error { return setInt(&c.CacheEntries, v) },
	"max_ttl":          func(c *configured, v string) error { return setDuration(&c.MaxTTL, v) },
	"max_negative_ttl": func(c *configured, v string) error { return setDuration(&c.MaxNegativeTTL, v) },
	"serve_stale":      func(c *configured, v string) error { return setDuration(&c.ServeStale, v) },
	"concurrency":      func(c *configured, v string) error { return setInt(&c.Concurrency, v) },
	"queue":            func(c *configured, v string) error { return setInt(&c.Queue, v) },
	"keep_case":        func(c *configured, v string) error { return setBool(&c.KeepCase, v) },
	"tls":              func(c *configured, v string) error { c.useTLS().ServerName = v; return nil },
	"tls_ca_file":      (*configured).trust,

	"servers":        (*configured).setServers,
	"search":         (*configured).setSearch,
	"ndots":          adjustInt(func(c *dns.ResolvConf) *int { return &c.Ndots }),
	"attempts":       adjustInt(func(c *dns.ResolvConf) *int { return &c.Attempts }),
	"timeout":        adjust(setDuration, func(c *dns.ResolvConf) *time.Duration { return &c.Timeout }),
	"rotate":         adjustBool(func(c *dns.ResolvConf) *bool { return &c.Rotate }),
	"use_tcp":        adjustBool(func(c *dns.ResolvConf) *bool { return &c.UseTCP }),
	"edns0":          adjustBool(func(c *dns.ResolvConf) *bool { return &c.EDNS0 }),
	"trust_ad":       adjustBool(func(c *dns.ResolvConf) *bool { return &c.TrustAD }),
	"single_request": adjustBool(func(c *dns.ResolvConf) *bool { return &c.SingleRequest }),
	"no_aaaa":        adjustBool(func(c *dns.ResolvConf) *bool { return &c.NoAAAA }),
	"no_tld_query":   adjustBool(func(c *dns.ResolvConf) *bool { return &c.NoTLDQuery }),
	"no_reload":      adjustBool(func(c *dns.ResolvConf) *bool { return &c.NoReload }),
}

func parseConfig(text string) (dns.Config, error) {
	c := &configured{Config: dns.DefaultConfig()}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		set, known := settings[name]
		if !known {
			return c.Config, fmt.Errorf("kloop: a resolver has no option %q: %w", name, syscall.EINVAL)
		}
		if err := set(c, value); err != nil {
			return c.Config, fmt.Errorf("kloop: %s=%q: %w", name, value, err)
		}
	}
	c.Adjust = func(conf *dns.ResolvConf) {
		conf.ApplyEnvironment(c.localDomain, c.resOptions)
		for _, adjust := range c.adjust {
			adjust(conf)
		}
	}
	return c.Config, nil
}

// adjust makes a setting of a field of ResolvConf.
func adjust[T any](read func(*T, string) error, field func(*dns.ResolvConf) *T) setting {
	return func(c *configured, text string) error {
		var value T
		if err := read(&value, text); err != nil {
			return err
		}
		c.adjust = append(c.adjust, func(conf *dns.ResolvConf) { *field(conf) = value })
		return nil
	}
}

func adjustInt(field func(*dns.ResolvConf) *int) setting   { return adjust(setInt, field) }
func adjustBool(field func(*dns.ResolvConf) *bool) setting { return adjust(setBool, field) }

func (c *configured) setServers(text string) error {
	var servers []netip.AddrPort
	for _, word := range strings.Fields(text) {
		at, err := netip.ParseAddrPort(word)
		if err != nil {
			return err
		}
		servers = append(servers, at)
	}
	c.adjust = append(c.adjust, func(conf *dns.ResolvConf) { conf.Servers = servers })
	return nil
}

func (c *configured) setSearch(text string) error {
	domains := strings.Fields(text)
	c.adjust = append(c.adjust, func(conf *dns.ResolvConf) { conf.Search = domains })
	return nil
}

func (c *configured) useTLS() *tls.Config {
	if c.TLS == nil {
		c.TLS = &tls.Config{}
	}
	return c.TLS
}

// trust has the servers' certificates checked by those of a PEM file, not by the system's.
func (c *configured) trust(path string) error {
	pem, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("no certificate in it: %w", syscall.EINVAL)
	}
	c.useTLS().RootCAs = roots
	return nil
}

func setInt(into *int, text string) (err error) {
	*into, err = strconv.Atoi(text)
	return err
}

// setDuration reads nanoseconds.
func setDuration(into *time.Duration, text string) error {
	n, err := strconv.ParseInt(text, 10, 64)
	*into = time.Duration(n)
	return err
}

func setBool(into *bool, text string) (err error) {
	*into, err = strconv.ParseBool(text)
	return err
}
