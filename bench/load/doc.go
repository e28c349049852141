// Command load is the native side of kloop's benchmarks: the client that
// drives a server under test, and the echo server that a client under test
// drives. It is never meant to be the bottleneck and it never trusts its
// peer: every byte that comes back is compared with what was sent, and a
// connection that makes no progress is an error.
//
//	load echo        echo client: latency, throughput, optional random closes
//	load idle        opens connections, exchanges one message on each, holds them
//	load http        keep-alive GET client
//	load udp         datagrams, each of them checked; losses are counted
//	load tls         echo client over TLS
//	load tlsidle     idle over TLS
//	load download    receives over TLS what the server sends all the time
//	load upload      sends over TLS all the time
//	load handshakes  a TLS connection for each message
//	load certificate makes what a TLS server and its clients need
//	load echoserver  echo server
//	load tlsserver   echo server over TLS, for a client that shakes hands
//	load link        a network of two namespaces that delays and loses packets
//
// One goroutine on one locked OS thread drives raw non-blocking sockets through
// an engine, see there. It looks for events for a while before it sleeps, so
// that servers need not wake it. What is left is the kernel's TCP: of the time of
// 1 KiB messages 97 % are spent in io_uring_enter(2), 89 % in sending and
// receiving. A goroutine per connection over package net was measured against
// read(2) and write(2) over epoll (1 KiB, pinned to one core, Go 1.26): it cost 1.2 to 1.4 times
// the CPU per message from 10 to 1,000 connections. sendfile(2) from a memfd
// instead of write(2) cost more: 1.1 times at 16 KiB, 1.25 times at 100 KiB.
//
// Results go to standard output as one line of JSON. The exit status is 0
// only if every byte and every response was right.
//
// What may not live here: anything of kloop but package uring, the kernel's
// ABI. The generator has to stay independent of the code that it measures;
// -engine epoll does without that package, too.
package main
