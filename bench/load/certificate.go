package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	certificateFile = "cert.pem"
	keyFile         = "key.pem"
	serverName      = "localhost"

	certificateLife = 24 * time.Hour
	clockTolerance  = time.Hour
)

// runCertificate writes a fresh key and a certificate for localhost, signed by
// itself, for one run of the benchmark: cert.pem, which clients trust, and
// key.pem.
func runCertificate(args []string) error {
	f := flag.NewFlagSet("certificate", flag.ExitOnError)
	folder := f.String("folder", ".", "where to write cert.pem and key.pem")
	f.Parse(args)
	return writeCertificate(*folder)
}

func writeCertificate(folder string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: serverName},
		NotBefore:             now.Add(-clockTolerance),
		NotAfter:              now.Add(certificateLife),
		DNSNames:              []string{serverName},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(folder, certificateFile), "CERTIFICATE", certificate); err != nil {
		return err
	}
	return writePEM(filepath.Join(folder, keyFile), "PRIVATE KEY", secret)
}

func writePEM(path, kind string, content []byte) error {
	const onlyOwner = 0o600
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), onlyOwner)
}
