package core

// completionQueue holds completions between the kernel and their handling, in
// order. Handlers may close listeners, which has to look through what is there.
type completionQueue struct {
	items []Completion
	head  int
}

func (q *completionQueue) len() int { return len(q.items) - q.head }

// next answers the first completion, which stays valid until the queue is filled.
func (q *completionQueue) next() *Completion {
	done := &q.items[q.head]
	q.head++
	return done
}

// fill reaps up to limit completions into the empty queue.
func (q *completionQueue) fill(driver Driver, limit int) int {
	if cap(q.items) < reapBatch {
		q.items = make([]Completion, reapBatch)
	}
	n := driver.Reap(q.items[:min(limit, reapBatch)])
	q.items, q.head = q.items[:n], 0
	return n
}

// fillAll reaps everything there is behind what the queue holds.
func (q *completionQueue) fillAll(driver Driver) {
	var batch [reapBatch]Completion
	for {
		n := driver.Reap(batch[:])
		q.items = append(q.items, batch[:n]...)
		if n < len(batch) {
			return
		}
	}
}

// holds says whether a completion with this token is among those not yet handled.
func (q *completionQueue) holds(token Token) bool {
	for i := q.head; i < len(q.items); i++ {
		if q.items[i].Token == token {
			return true
		}
	}
	return false
}

// each calls f for every completion. Where it answers true, the completion is done
// with, but for its buffer.
func (q *completionQueue) each(f func(done *Completion) bool) {
	for i := q.head; i < len(q.items); i++ {
		// f may add completions, which moves them.
		if q.items[i].Token != 0 && f(&q.items[i]) {
			q.items[i].Token = 0
		}
	}
}
