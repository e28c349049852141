package ktls

import "encoding/binary"

// Passed is what one direction has carried since the handshake ended.
type Passed struct {
	Records uint64 // whole ones
	Last    []byte // the last of them, from header to tag
}

// TakeOverLater is TakeOver for a connection whose records the handshake's own
// implementation has gone on with for a while. w must have been shown the
// handshake alone, and in both directions a record must have ended. The last
// record of each direction proves key and number.
func TakeOverLater(w *Watch, s *Secrets, sent, received Passed) (*Sealer, *Opener, error) {
	sealer, opener, err := TakeOver(w, s)
	if err != nil {
		return nil, nil, err
	}
	err = sent.prove(sealer.traffic, sealer.seq)
	if err == nil {
		err = received.prove(opener.traffic, opener.seq)
	}
	if err != nil {
		sealer.Wipe()
		opener.Wipe()
		return nil, nil, err
	}
	sealer.seq += sent.Records
	if sealer.lane.explicit && sent.Records > 0 {
		sealer.SetExplicitNonce(binary.BigEndian.Uint64(sent.Last[HeaderSize:]) + 1)
	}
	opener.seq += received.Records
	return sealer, opener, nil
}

// prove opens the last record, whose number the first one's and their count
// tell. It must be data, or messages behind which the key stays.
func (p Passed) prove(t *Traffic, first uint64) error {
	if p.Records == 0 && len(p.Last) == 0 {
		return nil
	}
	if p.Records == 0 || len(p.Last) == 0 {
		return unsupported("records were counted, or kept, but not both")
	}
	own := *t
	opener, err := NewOpener(&own, first+p.Records-1)
	if err != nil {
		return err
	}
	defer opener.Wipe()
	r, err := opener.Open(append([]byte(nil), p.Last...))
	switch {
	case err != nil || r.Size != len(p.Last):
		return unsupported("the last record is not of the handshake's last key, or not the one that was counted")
	case r.Type == TypeData:
		return nil
	case r.Type != TypeHandshake || t.suite.Version != TLS13 || !keepsKey(r.Content):
		return unsupported("the last record changes the key, or ends the connection")
	}
	return nil
}

// keepsKey reports whether p is whole messages, none of them a KeyUpdate.
func keepsKey(p []byte) bool {
	for len(p) >= messageHeaderSize {
		n := messageHeaderSize + (int(p[1])<<16 | int(p[2])<<8 | int(p[3]))
		if p[0] == messageKeyUpdate || n > len(p) {
			return false
		}
		p = p[n:]
	}
	return len(p) == 0
}
