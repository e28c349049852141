// Package dns will resolve names over the ring: resolv.conf, hosts, a cache
// bound by TTLs, and a resolver. It holds no code yet.
package dns
