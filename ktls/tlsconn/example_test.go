package tlsconn_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"

	"kloop/ktls/tlsconn"
)

// A server that echoes, and its client. With Options.Records left at its default
// the kernel protects the records where it can.
func Example() {
	// A certificate for example.com that signs itself, as httptest has one.
	source := httptest.NewTLSServer(nil)
	defer source.Close()
	roots := x509.NewCertPool()
	roots.AddCert(source.Certificate())

	server, err := tlsconn.NewConfig(&tls.Config{Certificates: source.TLS.Certificates}, tlsconn.Options{Records: tlsconn.Go})
	if err != nil {
		log.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	listener := tlsconn.NewListener(inner, server)
	defer listener.Close()
	go func() {
		c, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()

	client, err := tlsconn.NewConfig(&tls.Config{RootCAs: roots, ServerName: "example.com"}, tlsconn.Options{Records: tlsconn.Go})
	if err != nil {
		log.Fatal(err)
	}
	nc, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	c := client.Client(nc)
	defer c.Close()
	if _, err := io.WriteString(c, "hello"); err != nil {
		log.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		log.Fatal(err)
	}
	echoed, err := io.ReadAll(c)
	fmt.Println(string(echoed), err, c.Offload().TX, tls.VersionName(c.ConnectionState().Version))
	// Output: hello <nil> go TLS 1.3
}
