package ktls

// Shadow speaks with the implementation that made the handshake, after its records
// have been taken over: with the keys and numbers that it had then, and still has.
// So it can be shown what the peer sends beside data, such as session tickets and
// alerts, and acts on it as it would have. What passes between the two must never
// leave the process: its numbers are those of records that the peer knows.
type Shadow struct {
	in, out       Traffic
	inSeq, outSeq uint64
	sealer        *Sealer // made when needed: idle connections have none
	opener        *Opener
}

// NewShadow makes one from what TakeOver has answered, before either is used.
func NewShadow(s *Sealer, o *Opener) *Shadow {
	return &Shadow{in: *o.traffic, out: *s.traffic, inSeq: o.seq, outSeq: s.seq}
}

// Show answers the records by which the peer would send content.
func (s *Shadow) Show(typ ContentType, content []byte) ([]byte, error) {
	if s.sealer == nil {
		sealer, err := NewSealer(&s.in, s.inSeq)
		if err != nil {
			return nil, err
		}
		s.sealer = sealer
	}
	return s.sealer.Seal(nil, typ, content)
}

// ShowCorrupt answers a record that is not authentic.
func (s *Shadow) ShowCorrupt() ([]byte, error) {
	record, err := s.Show(TypeData, []byte{0})
	if err == nil {
		record[len(record)-1] ^= 1
	}
	return record, err
}

// Open opens, in place, the first record of what the implementation has sent. Alerts
// in it are about the shadow's own records, until the peer is told what it sends.
func (s *Shadow) Open(p []byte) (Record, error) {
	if s.opener == nil {
		opener, err := NewOpener(&s.out, s.outSeq)
		if err != nil {
			return Record{}, err
		}
		opener.AllowChange()
		s.opener = opener
	}
	r, err := s.opener.Open(p)
	if err == nil && r.Size == 0 {
		err = &UseError{Reason: "the handshake's implementation has sent part of a record"}
	}
	return r, err
}

// Wipe overwrites the secrets.
func (s *Shadow) Wipe() {
	s.in.Wipe()
	s.out.Wipe()
	if s.sealer != nil {
		s.sealer.Wipe()
	}
	if s.opener != nil {
		s.opener.Wipe()
	}
}
