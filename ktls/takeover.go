package ktls

import (
	"encoding/binary"
	"math"
)

// minRecordSizeLimit is RFC 8449's, section 4.
const minRecordSizeLimit = 64

// TakeOver answers sealer and opener for the records behind a finished
// handshake. Every byte of it, and nothing else, must have been shown to w; s
// must hold its secrets. It proves key and number with the last records that
// the handshake sent, where there are any. An *UnsupportedError says why the
// handshake's own implementation has to go on.
func TakeOver(w *Watch, s *Secrets) (*Sealer, *Opener, error) {
	suite, limit, err := w.judge()
	if err != nil {
		return nil, nil, err
	}
	out, in, err := w.traffic(suite, s)
	if err != nil {
		return nil, nil, err
	}
	sealer, opener, err := w.goOn(out, in)
	if err != nil {
		out.Wipe()
		in.Wipe()
		return nil, nil, err
	}
	return sealer, opener, sealer.SetMaxPlaintext(limit)
}

// judge answers the suite, and the most plaintext that a record may carry.
func (w *Watch) judge() (*Suite, int, error) {
	switch {
	case w.err != nil:
		return nil, 0, w.err
	case !w.clientKnown || !w.serverKnown:
		return nil, 0, unsupported("no hello has been seen")
	case !w.Boundary():
		return nil, 0, unsupported("the handshake ended within a record")
	case w.server.Compression != 0:
		return nil, 0, unsupported("records are compressed")
	}
	suite, err := SuiteOf(w.server.Suite, w.server.Version)
	if err != nil {
		return nil, 0, err
	}
	limit := MaxPlaintext
	if n := w.client.MaxFragmentLength; n > 0 {
		limit = n // whether the server agreed is not always visible; smaller records always are right
	}
	if w.client.RecordSizeLimit > 0 {
		if w.isClient {
			// The server's own limit is in EncryptedExtensions.
			return nil, 0, unsupported("record_size_limit was offered, and the server's answer is not known")
		}
		n := w.client.RecordSizeLimit
		if n < minRecordSizeLimit {
			return nil, 0, unsupported("a record_size_limit of %d bytes", n)
		}
		if suite.Version == TLS13 {
			n-- // it counts the inner content type
		}
		limit = min(MaxPlaintext, n)
	}
	return suite, limit, nil
}

// traffic derives the keys of both directions.
func (w *Watch) traffic(suite *Suite, s *Secrets) (out, in *Traffic, err error) {
	var client, server *Traffic
	if suite.Version == TLS12 {
		master := s.Get(LabelClientRandom)
		if master == nil {
			return nil, nil, unsupported("the key log has no %s", LabelClientRandom)
		}
		client, server, err = NewTraffic12(suite, master, w.client.Random[:], w.server.Random[:])
	} else {
		client, err = traffic13(suite, s, LabelClientTraffic)
		if err == nil {
			server, err = traffic13(suite, s, LabelServerTraffic)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	if w.isClient {
		return client, server, nil
	}
	return server, client, nil
}

func traffic13(suite *Suite, s *Secrets, l Label) (*Traffic, error) {
	secret := s.Get(l)
	if secret == nil {
		return nil, unsupported("the key log has no %s", l)
	}
	if len(secret) != suite.Hash.Size() {
		return nil, unsupported("%s of the key log has not the size of %s's hash", l, suite.Name)
	}
	return NewTraffic13(suite, secret)
}

// goOn finds where the numbers of both directions go on.
func (w *Watch) goOn(out, in *Traffic) (*Sealer, *Opener, error) {
	if out.suite.Version == TLS12 {
		return w.goOn12(out, in)
	}
	tickets := uint64(0)
	if !w.isClient {
		n, err := w.tickets(out)
		if err != nil {
			return nil, nil, err
		}
		tickets = n
	}
	sealer, err := NewSealer(out, tickets)
	if err != nil {
		return nil, nil, err
	}
	opener, err := NewOpener(in, 0)
	return sealer, opener, err
}

// tickets counts the records at the end of a TLS 1.3 server's handshake that
// have the key of application data: session tickets.
func (w *Watch) tickets(out *Traffic) (uint64, error) {
	own := *out
	first, err := NewOpener(&own, 0)
	if err != nil {
		return 0, err
	}
	defer first.Wipe()
	for i, rec := range w.sent.kept {
		if !first.opens(rec) {
			continue
		}
		n, ok, err := tryRecords(out, w.sent.kept[i:], messageTicket)
		if err != nil {
			return 0, err
		}
		if ok {
			return n, nil
		}
	}
	if w.sent.dropped {
		return 0, unsupported("the handshake ended with more than %d records, which may all be tickets", maxKept)
	}
	return 0, nil
}

// opens reports whether rec, which stays as it is, is the next record.
func (o *Opener) opens(rec []byte) bool {
	_, err := o.lane.openRecord(o.seq, nil, append([]byte(nil), rec...), o.max)
	return err == nil
}

func (w *Watch) goOn12(out, in *Traffic) (*Sealer, *Opener, error) {
	if w.sent.counted == 0 || w.received.counted == 0 || w.sent.dropped {
		return nil, nil, unsupported("no ChangeCipherSpec and Finished in both directions, or too much behind them")
	}
	n, ok, err := tryRecords(out, w.sent.kept[:1], messageFinished)
	if err != nil {
		return nil, nil, err
	}
	if !ok || n != 1 {
		return nil, nil, unsupported("the key log's secret does not open this side's own Finished")
	}
	sealer, err := NewSealer(out, uint64(w.sent.counted))
	if err != nil {
		return nil, nil, err
	}
	if last := w.sent.kept[len(w.sent.kept)-1]; sealer.lane.explicit {
		sealer.SetExplicitNonce(binary.BigEndian.Uint64(last[HeaderSize:]) + 1)
	}
	opener, err := NewOpener(in, uint64(w.received.counted))
	return sealer, opener, err
}

// tryRecords reports whether records, opened with numbers from 0 on, are whole
// handshake messages of a kind, and how many they are. They stay as they are.
func tryRecords(t *Traffic, records [][]byte, kind byte) (n uint64, ok bool, err error) {
	own := *t
	opener, err := NewOpener(&own, 0)
	if err != nil {
		return 0, false, err
	}
	defer opener.Wipe()
	var message []byte
	for _, rec := range records {
		r, err := opener.Open(append([]byte(nil), rec...))
		if err != nil || r.Type != TypeHandshake {
			return 0, false, nil
		}
		message = append(message, r.Content...)
	}
	return opener.Seq(), opener.Seq() < math.MaxUint64 && len(message) > 0 && message[0] == kind, nil
}
