package main

import (
	"math/rand/v2"
	"time"
)

// impairment is what a link does to packets, in the terms of tc-netem(8). A chance is
// a part of 1.
type impairment struct {
	delay, jitter            time.Duration // a packet takes delay ± jitter
	loss, duplicate, reorder float64       // chances of each packet
	limit                    int           // packets under way; what is more is dropped
}

// packetCounts says what one direction of a link did.
type packetCounts struct {
	Packets    uint64  `json:"packets"` // taken in
	Dropped    uint64  `json:"dropped"` // at random
	Overflowed uint64  `json:"overflowed"`
	Duplicated uint64  `json:"duplicated"`
	Forwarded  uint64  `json:"forwarded"` // handed out, duplicates included
	Reordered  uint64  `json:"reordered"` // of these: behind one that came later
	MinDelayMS float64 `json:"min_delay_ms"`
	MaxDelayMS float64 `json:"max_delay_ms"`
	SumDelayMS float64 `json:"sum_delay_ms"` // of all that were forwarded
}

// lossy is one direction of a link: it keeps packets until they are due. Times are
// since any beginning, the same one for all calls.
//
// Jitter alone leaves the order as it is, as on a path whose queue grows and shrinks: what is
// chosen for reorder waits for twice the jitter more, and what follows passes it. netem without a
// rate reorders by jitter too; at a hundred packets per millisecond that would be nearly all of them.
type lossy struct {
	impairment
	chance *rand.Rand
	counts packetCounts
	serial uint64        // of the last packet that was taken in
	passed uint64        // the highest serial that was handed out
	newest time.Duration // when the last packet that keeps the order is due
	queue  []delayed     // a heap: the one due first comes first
	spare  [][]byte
}

type delayed struct {
	due, taken time.Duration
	serial     uint64
	packet     []byte
}

// before orders packets that are due at the same time as they came.
func (d *delayed) before(other *delayed) bool {
	return d.due < other.due || d.due == other.due && d.serial < other.serial
}

func newLossy(i impairment, seed, stream uint64) *lossy {
	return &lossy{impairment: i, chance: rand.New(rand.NewPCG(seed, stream))}
}

// take copies a packet that came now, or drops it.
func (l *lossy) take(packet []byte, now time.Duration) {
	l.counts.Packets++
	l.serial++
	// Always the same draws per packet, so that what becomes of the nth depends on the seed alone.
	lost, twice, late := l.draw(l.loss), l.draw(l.duplicate), l.draw(l.reorder)
	due := now + l.delay + time.Duration((2*l.chance.Float64()-1)*float64(l.jitter))
	if lost {
		l.counts.Dropped++
		return
	}
	if late {
		due = max(due, l.newest) + 2*l.jitter
	} else {
		due = max(due, l.newest)
		l.newest = due
	}
	l.keep(packet, now, due)
	if twice {
		l.counts.Duplicated++
		l.keep(packet, now, due)
	}
}

func (l *lossy) draw(part float64) bool { return l.chance.Float64() < part }

func (l *lossy) keep(packet []byte, now, due time.Duration) {
	if len(l.queue) >= l.limit {
		l.counts.Overflowed++
		return
	}
	var room []byte
	if n := len(l.spare); n > 0 {
		room, l.spare = l.spare[n-1][:0], l.spare[:n-1]
	}
	l.push(delayed{due, now, l.serial, append(room, packet...)})
}

func (l *lossy) idle() bool { return len(l.queue) == 0 }

// handOut gives write each packet that is due, until write fails. What failed
// stays under way.
func (l *lossy) handOut(now time.Duration, write func([]byte) error) error {
	for len(l.queue) > 0 && l.queue[0].due <= now {
		if err := write(l.queue[0].packet); err != nil {
			return err
		}
		d := l.pop()
		l.count(&d, now)
		l.spare = append(l.spare, d.packet)
	}
	return nil
}

func (l *lossy) count(d *delayed, now time.Duration) {
	if d.serial < l.passed {
		l.counts.Reordered++
	}
	l.passed = max(l.passed, d.serial)
	ms := float64(now-d.taken) / float64(time.Millisecond)
	if l.counts.Forwarded == 0 || ms < l.counts.MinDelayMS {
		l.counts.MinDelayMS = ms
	}
	l.counts.MaxDelayMS = max(l.counts.MaxDelayMS, ms)
	l.counts.SumDelayMS += ms
	l.counts.Forwarded++
}

func (l *lossy) push(d delayed) {
	l.queue = append(l.queue, d)
	for i := len(l.queue) - 1; i > 0; {
		parent := (i - 1) / 2
		if !l.queue[i].before(&l.queue[parent]) {
			return
		}
		l.queue[i], l.queue[parent] = l.queue[parent], l.queue[i]
		i = parent
	}
}

func (l *lossy) pop() delayed {
	first, last := l.queue[0], len(l.queue)-1
	l.queue[0] = l.queue[last]
	l.queue[last] = delayed{}
	l.queue = l.queue[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if l.queue[child].before(&l.queue[least]) {
				least = child
			}
		}
		if least == i {
			return first
		}
		l.queue[i], l.queue[least] = l.queue[least], l.queue[i]
		i = least
	}
}
