// Package dns resolves names over the loops of package core: a stub resolver that asks the
// servers of resolv.conf(5), with a hosts file, a cache and getaddrinfo(3)'s semantics. The
// wire format is github.com/miekg/dns's.
//
// A [Resolver] is for any number of goroutines. [Resolver.Resolve] asks for the records of
// one type; [Resolver.LookupIP] and [Resolver.LookupAddr] also look at the hosts file, and
// LookupIP follows the search list; [Resolver.Getaddrinfo] answers as libc would, or says
// that libc must be asked ([ErrAskLibc]).
//
// What one server says is believed about the name that was asked for and nothing else: of a
// response only the answer section counts, and of that the records that the question leads
// to. A response must come from the address and port that was asked, to the port it was asked
// from, with the id, the question, and the case of its letters (0x20).
//
// The package imports core; core never imports it.
package dns
