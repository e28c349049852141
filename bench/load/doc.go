// Command load is the native side of kloop's benchmarks: the client that
// drives a server under test, and the echo server that a client under test
// drives. It is never meant to be the bottleneck and it never trusts its
// peer: every byte that comes back is compared with what was sent, and a
// connection that makes no progress is an error.
//
//	load echo        echo client: latency, throughput, optional random closes
//	load idle        opens connections, exchanges one message on each, holds them
//	load http        keep-alive GET client
//	load echoserver  echo server
//
// One goroutine on one locked OS thread runs one edge-triggered epoll set
// (epoll(7)) over raw non-blocking sockets. A goroutine per connection over
// package net was measured against it (1 KiB, pinned to one core, Go 1.26): it cost 1.2
// to 1.4 times the CPU per message from 10 to 1,000 connections.
//
// Results go to standard output as one line of JSON. The exit status is 0
// only if every byte and every response was right.
//
// What may not live here: anything of kloop. The generator has to stay
// independent of the code that it measures.
package main
