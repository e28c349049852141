package ktls

import (
	"errors"
	"strings"
	"testing"
)

var (
	randomA  = strings.Repeat("a1", 32)
	randomB  = strings.Repeat("b2", 32)
	secret32 = strings.Repeat("0c", 32)
	secret48 = strings.Repeat("0d", 48)
)

func TestKeyLog(t *testing.T) {
	log := "# a comment\n\nCLIENT_RANDOM " + randomA + " " + secret48 + "\r\n" +
		"CLIENT_RANDOM " + randomB + " " + strings.Repeat("ee", 48) + "\n" +
		"RSA 0011223344556677 " + secret48 + "\n" +
		"ECH_SECRET " + randomA + " 00\n"
	for l := LabelClientEarly; l < numLabels; l++ {
		log += l.String() + " " + strings.ToUpper(randomA) + " " + secret32 + "\n"
	}
	var s Secrets
	check(t, s.ParseKeyLog([]byte(log), unhex(t, randomA)))
	equal(t, "master secret", s.Get(LabelClientRandom), unhex(t, secret48))
	for l := LabelClientEarly; l < numLabels; l++ {
		equal(t, l.String(), s.Get(l), unhex(t, secret32))
	}
	// The same lines again, as a second window of the same log would have them.
	check(t, s.ParseKeyLog([]byte(log), unhex(t, randomA)))
	s.Wipe()
	if s.Get(LabelClientRandom) != nil || s != (Secrets{}) {
		t.Error("something is left after Wipe")
	}
}

// TestKeyLogRefuses: nothing that is refused may show a secret in its error.
func TestKeyLogRefuses(t *testing.T) {
	good := "CLIENT_TRAFFIC_SECRET_0 " + randomA + " " + secret32 + "\n"
	for name, log := range map[string]string{
		"no client_random":                      "CLIENT_RANDOM\n",
		"no secret":                             "CLIENT_RANDOM " + randomA + "\n",
		"client_random is not 32 bytes":         "CLIENT_RANDOM " + randomA + "00 " + secret48 + "\n",
		"client_random is not hex":              "CLIENT_RANDOM " + strings.Repeat("x", 64) + " " + secret48 + "\n",
		"CLIENT_RANDOM has a wrong size":        "CLIENT_RANDOM " + randomA + " " + secret32 + "\n",
		"TRAFFIC_SECRET_0 has a wrong size":     "SERVER_TRAFFIC_SECRET_0 " + randomA + " " + secret32 + "0\n",
		"EXPORTER_SECRET is not hex":            "EXPORTER_SECRET " + randomA + " " + strings.Repeat("y", 64) + "\n",
		"line 2: the line does not end":         good + "EXPORTER_SECRET " + randomA + " " + secret32,
		"a second value of CLIENT_TRAFFIC":      good + "CLIENT_TRAFFIC_SECRET_0 " + randomA + " " + strings.Repeat("0e", 32) + "\n",
		"a second value of CLIENT_TRAFFIC_SECR": good + "CLIENT_TRAFFIC_SECRET_0 " + randomA + " " + secret48 + "\n",
		"is not hexadecimal":                    "SERVER_TRAFFIC_SECRET_0 " + randomA + " " + secret32[:62] + " x\n",
	} {
		var s Secrets
		err := s.ParseKeyLog([]byte(log), unhex(t, randomA))
		var k *KeyLogError
		if !errors.As(err, &k) || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q", err, name)
		} else if strings.Contains(err.Error(), "0c0c") || strings.Contains(err.Error(), "0d0d") {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
	var s Secrets
	if err := s.ParseKeyLog([]byte(good), make([]byte, 31)); err == nil {
		t.Error("a client_random of 31 bytes is taken")
	}
}

// TestKeyLogOfOneConnection: without a client_random all lines must agree.
func TestKeyLogOfOneConnection(t *testing.T) {
	a := "CLIENT_TRAFFIC_SECRET_0 " + randomA + " " + secret32 + "\n"
	b := "SERVER_TRAFFIC_SECRET_0 " + randomB + " " + secret32 + "\n"
	var s Secrets
	check(t, s.ParseKeyLog([]byte(a), nil))
	if err := s.ParseKeyLog([]byte(b), nil); err == nil {
		t.Error("lines of two connections are taken for one's")
	}
	if s.Get(LabelServerTraffic) != nil {
		t.Error("a refused line's secret is kept")
	}
}
