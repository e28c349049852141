package ktls

import (
	"crypto"
	_ "crypto/sha512"
	"testing"
)

// RFC 8448 section 3, "Simple 1-RTT Handshake".
const (
	rfcClientSecret = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"
	rfcServerSecret = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"
	rfcTicketRecord = `17 03 03 00 de 3a 6b 8f 90 41 4a 97 d6 95 9c 34 87 68 0d e5 13 4a 2b 24
		0e 6c ff ac 11 6e 95 d4 1d 6a f8 f6 b5 80 dc f3 d1 1d 63 c7 58 db 28 9a
		01 59 40 25 2f 55 71 3e 06 1d c1 3e 07 88 91 a3 8e fb cf 57 53 ad 8e f1
		70 ad 3c 73 53 d1 6d 9d a7 73 b9 ca 7f 2b 9f a1 b6 c0 d4 a3 d0 3f 75 e0
		9c 30 ba 1e 62 97 2a c4 6f 75 f7 b9 81 be 63 43 9b 29 99 ce 13 06 46 15
		13 98 91 d5 e4 c5 b4 06 f1 6e 3f c1 81 a7 7c a4 75 84 00 25 db 2f 0a 77
		f8 1b 5a b0 5b 94 c0 13 46 75 5f 69 23 2c 86 51 9d 86 cb ee ac 87 aa c3
		47 d1 43 f9 60 5d 64 f6 50 db 4d 02 3e 70 e9 52 ca 49 fe 51 37 12 1c 74
		bc 26 97 68 7e 24 87 46 d6 df 35 30 05 f3 bc e1 86 96 12 9c 81 53 55 6b
		3b 6c 67 79 b3 7b f1 59 85 68 4f`
	rfcClientData = `17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea
		42 f9 14 aa 66 bc ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b
		62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4`
	rfcServerData = `17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc
		32 25 d0 5f 82 aa 1b 36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8
		fc c4 9c 4b f2 e5 f0 a2 1c 00 47 c2 ab f3 32 54 0d d0 32 e1 67 c2 95 5d`
	rfcClientAlert = "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3"
	rfcServerAlert = "17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9"
)

func rfcTraffic(t *testing.T, secret string) *Traffic {
	t.Helper()
	s, err := SuiteOf(0x1301, TLS13)
	check(t, err)
	traffic, err := NewTraffic13(s, unhex(t, secret))
	check(t, err)
	return traffic
}

func TestRFC8448TrafficKeys(t *testing.T) {
	client, server := rfcTraffic(t, rfcClientSecret), rfcTraffic(t, rfcServerSecret)
	equal(t, "client key", client.key[:16], unhex(t, "17422dda596ed5d9acd890e3c63f5051"))
	equal(t, "client IV", client.iv[:], unhex(t, "5b78923dee08579033e523d9"))
	equal(t, "server key", server.key[:16], unhex(t, "9f02283b6c9c07efc26bb9f2ac92e356"))
	equal(t, "server IV", server.iv[:], unhex(t, "cf782b88dd83549aadf1e984"))
}

// TestRFC8448Records seals and opens every record behind the handshake.
func TestRFC8448Records(t *testing.T) {
	payload := make([]byte, 50)
	for i := range payload {
		payload[i] = byte(i)
	}
	for _, side := range []struct {
		name, secret string
		records      []string
		types        []ContentType
	}{
		{"client", rfcClientSecret, []string{rfcClientData, rfcClientAlert}, []ContentType{TypeData, TypeAlert}},
		{"server", rfcServerSecret, []string{rfcTicketRecord, rfcServerData, rfcServerAlert},
			[]ContentType{TypeHandshake, TypeData, TypeAlert}},
	} {
		opener, err := NewOpener(rfcTraffic(t, side.secret), 0)
		check(t, err)
		sealer, err := NewSealer(rfcTraffic(t, side.secret), 0)
		check(t, err)
		for i, text := range side.records {
			record := unhex(t, text)
			r, err := opener.Open(append([]byte(nil), record...))
			check(t, err)
			if r.Type != side.types[i] || r.Size != len(record) {
				t.Errorf("%s: record %d has type %d and size %d", side.name, i, r.Type, r.Size)
			}
			switch r.Type {
			case TypeData:
				equal(t, "payload", r.Content, payload)
			case TypeAlert:
				alert := AlertCloseNotify.Content()
				equal(t, "alert", r.Content, alert[:])
			case TypeHandshake:
				if r.Content[0] != messageTicket {
					t.Errorf("message %d is no NewSessionTicket", r.Content[0])
				}
			}
			sealed, err := sealer.Seal(nil, r.Type, r.Content)
			check(t, err)
			equal(t, side.name+"'s record", sealed, record)
		}
	}
}

// TestPRF12 has the vector for SHA-256 that the IETF's TLS working group
// published in 2009, and for SHA-384 what `openssl kdf TLS1-PRF` answers.
func TestPRF12(t *testing.T) {
	for _, c := range []struct {
		hash                      crypto.Hash
		secret, label, seed, want string
	}{
		{crypto.SHA256, "9bbe436ba940f017b17652849a71db35", "test label", "a0ba9f936cda311827a6f796ffd5198c",
			`e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af0fa0
			22f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff70187347b66`},
		{crypto.SHA384, "9bbe436ba940f017b17652849a71db35", "test label", "a0ba9f936cda311827a6f796ffd5198c", `dd88775cd827187b67a3f7652b5c13f715791cc46e0274a6d3fb16651103defc544cd8afb68369a219bb918b8b21ddb1764af0a70339e6dec085e574f655851ba692513203536bdfc3675e53768210f0a2389dd324311a440c7c30ef44b391d914c3b0c7`},
	} {
		want := unhex(t, c.want)
		got := make([]byte, len(want))
		prf12(c.hash, got, unhex(t, c.secret), c.label, unhex(t, c.seed))
		equal(t, c.hash.String(), got, want)
	}
}

// TestTrafficUpdate has the next secret that `openssl kdf TLS13-KDF` derives.
func TestTrafficUpdate(t *testing.T) {
	traffic := rfcTraffic(t, rfcClientSecret)
	check(t, traffic.update())
	equal(t, "next secret", traffic.secret[:32], unhex(t, `fcdfcc72725aaee48bf64e4fd8b749cdbdbab39d90da0b26e2245ca6ea167207`))
	equal(t, "next key", traffic.key[:16], unhex(t, `3879d82f5f14056e623f2ce5bfc66fce`))
	equal(t, "next IV", traffic.iv[:], unhex(t, `5dfb2c5938c3379b6cc5d1f2`))
}

func TestTrafficRefusesWrongSizes(t *testing.T) {
	s13, _ := SuiteOf(0x1302, TLS13)
	s12, _ := SuiteOf(0xC02F, TLS12)
	if _, err := NewTraffic13(s13, make([]byte, 32)); err == nil {
		t.Error("a secret of 32 bytes for SHA-384 is taken")
	}
	if _, err := NewTraffic13(s12, make([]byte, 32)); err == nil {
		t.Error("a suite of TLS 1.2 is taken for 1.3")
	}
	if _, _, err := NewTraffic12(s13, make([]byte, 48), make([]byte, 32), make([]byte, 32)); err == nil {
		t.Error("a suite of TLS 1.3 is taken for 1.2")
	}
	if _, _, err := NewTraffic12(s12, make([]byte, 47), make([]byte, 32), make([]byte, 32)); err == nil {
		t.Error("a short master secret is taken")
	}
	traffic, _, err := NewTraffic12(s12, make([]byte, 48), make([]byte, 32), make([]byte, 32))
	check(t, err)
	if traffic.update() == nil {
		t.Error("TLS 1.2 has a key update")
	}
}
