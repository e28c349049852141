package core

// An id is 31 bits: the index of a slot below, and above it the slot's
// generation, so that a stale id finds nothing instead of another object.
const (
	slotIndexBits  = 21
	slotMax        = 1 << slotIndexBits
	slotIndexMask  = slotMax - 1
	generationBits = 10
	generationMask = 1<<generationBits - 1
)

// slots is the table of everything that has operations in the kernel.
type slots struct {
	entries []slot
	free    []uint32 // indexes
	live    int
}

type slot struct {
	generation uint32
	object     any
}

func (s *slots) add(object any) (id uint32, err error) {
	var index uint32
	switch {
	case len(s.free) > 0:
		index = s.free[len(s.free)-1]
		s.free = s.free[:len(s.free)-1]
	case len(s.entries) < slotMax:
		index = uint32(len(s.entries))
		s.entries = append(s.entries, slot{})
	default:
		return 0, ErrTooMany
	}
	entry := &s.entries[index]
	entry.object = object
	s.live++
	return entry.generation<<slotIndexBits | index, nil
}

// get answers nil for an id whose object is gone.
func (s *slots) get(id uint32) any {
	index := id & slotIndexMask
	if int(index) >= len(s.entries) {
		return nil
	}
	entry := &s.entries[index]
	if entry.generation != id>>slotIndexBits {
		return nil
	}
	return entry.object
}

func (s *slots) remove(id uint32) {
	if s.get(id) == nil {
		panic("kloop: an object was removed twice")
	}
	index := id & slotIndexMask
	entry := &s.entries[index]
	entry.object = nil
	entry.generation = (entry.generation + 1) & generationMask
	s.free = append(s.free, index)
	s.live--
}
