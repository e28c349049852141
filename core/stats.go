package core

// Stats counts what happened since the engine was made.
type Stats struct {
	Driver        DriverStats
	BytesReceived uint64
	BytesSent     uint64
	Rearms        uint64 // multishot operations armed again after they ended
	NoBufs        uint64 // of these, because no receive buffer was free
	ShortSends    uint64 // quick sends that the kernel took only in part, or not
	DirectSends   uint64 // SendNow and SendDatagramNow calls
	Wakes         uint64 // wake-ups by other threads
	Accepts       uint64
	Conns         uint64 // gauge: connections and datagram endpoints
	Listeners     uint64 // gauge
	Watches       uint64 // gauge: watches and connects
	OwnersOut     uint64 // gauge: owners not yet released
	Operations    uint64 // gauge: Operations under way
}

// Stats answers the counters as they are now.
func (e *Engine) Stats() Stats {
	s := e.stats
	s.Driver = e.driver.Stats()
	s.Wakes = e.waker.wakes.Load()
	return s
}
