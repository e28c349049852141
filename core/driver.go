package core

// Token names an operation in its completion: 8 bits of OpKind above the 32
// bits of the id of the object that asked for it. 0 is an operation whose
// completion nobody wants.
type Token uint64

const tokenKindShift = 32

func makeToken(kind OpKind, id uint32) Token {
	return Token(kind)<<tokenKindShift | Token(id)
}

func (t Token) kind() OpKind { return OpKind(t >> tokenKindShift) }
func (t Token) id() uint32   { return uint32(t) }

// OpKind says what an operation does.
type OpKind uint8

const (
	// OpReceive receives again and again into buffers of the driver, until a
	// completion says that no more follow.
	OpReceive OpKind = iota + 1
	// OpSend sends Parts in order. Quick: take what fits now and do not wait;
	// a quick send that took everything may have no completion (Driver.Settled).
	// Not quick: wait until the kernel takes something, and complete with that.
	// Worker: a thread of the kernel's own, where it has such, takes what fits.
	OpSend
	// OpAccept accepts again and again; sockets are non-blocking and close-on-exec.
	OpAccept
	// OpConnect connects FD to Addr, a raw sockaddr.
	OpConnect
	// OpPoll waits once for Events (poll(2)) on FD.
	OpPoll
	// OpReceiveDatagrams receives again and again into datagram buffers of the driver, as
	// OpReceive does. Driver.PrepareDatagrams comes first.
	OpReceiveDatagrams
	// OpRead reads into buffers of the driver, as OpReceive does: again and again, or
	// with Once a single time, and then each completion is the last.
	OpRead
	// OpReceiveOnce receives once into a buffer of the driver, at most Limit bytes.
	OpReceiveOnce
	// OpReceiveInto receives once into Parts[0].
	OpReceiveInto
	// OpSendAll sends Parts[0] and completes when the kernel has taken all of it, or
	// with what it took before an error or a cancel.
	OpSendAll
	// OpCancel ends the operation with the token Target, which still gets its
	// last completion. OpCancel itself completes under token 0, if at all.
	OpCancel
	// opWake and opConnectPoll are polls of the engine's own; they exist as kinds of token.
	opWake
	opConnectPoll
	opReadable
	opWritable
)

// Op is one operation. The driver keeps no reference to an Op, nor to the
// slices Parts and Addr; the bytes that Parts' elements point to must stay
// valid until the operation is over.
type Op struct {
	Kind   OpKind
	Quick  bool
	Worker bool
	Once   bool
	FD     int
	Token  Token
	Target Token
	Events uint32
	Limit  uint32
	Parts  [][]byte
	Addr   []byte
	// File is what operations on files need besides: it stays as it is until they are over.
	File *FileRequest
}

// BufferID names a receive buffer. 0 is none.
type BufferID uint32

// Completion is the kernel's answer to an operation.
type Completion struct {
	Token Token
	// Res is the operation's result: bytes, an fd, poll events, or a negative errno.
	Res int32
	// More says that the operation goes on and completes again.
	More bool
	// Buffer holds Data; the engine gives it back with Driver.Recycle. Data of
	// OpReceiveDatagrams is as uring.SplitDatagram wants it.
	Buffer BufferID
	Data   []byte
}

// Driver is the one interface between the engine and the kernel.
//
// All methods are for the engine's thread, except Attach and Close, and Reap and
// Recycle before Close, which are for any thread while no other uses the driver.
type Driver interface {
	// Name is "io_uring", "epoll" or the like.
	Name() string
	// Submit queues op. When the queue is full it hands it to the kernel first.
	// An error means that the driver is broken.
	Submit(op *Op) error
	// Does says whether the driver takes operations of a kind that is about files. Others are done
	// by calls that wait.
	Does(kind OpKind) bool
	// Flush makes everything queued ready to be handed over by the next wait.
	Flush()
	// Wait hands over what is queued and waits up to timeoutNS nanoseconds
	// (negative: for ever; 0: not at all) until there is something to reap.
	// It answers EINTR when a signal ended the wait, EAGAIN or EBUSY when the kernel has no
	// memory now or wants completions to be taken first; a timeout is no error.
	Wait(timeoutNS int64) error
	// Reap moves completions to dst and answers how many: fewer than dst has room for
	// only if there are no more. It never waits.
	Reap(dst []Completion) int
	// Ready says whether a Wait that does not wait, or Reap, would find something.
	Ready() bool
	// Silent says that a quick send which took everything has no completion.
	Silent() bool
	// Settled says that every operation submitted so far is in the kernel's
	// hands and every completion that exists has been reaped, so that silent
	// quick sends without a completion took everything.
	Settled() bool
	// Recycle gives a receive buffer back.
	Recycle(id BufferID)
	// SyncCancel ends the operation with this token before it returns. Its last
	// completion is then there to be reaped, after a Wait(0) at most.
	SyncCancel(token Token) error
	// SendNow sends what fits now, past the queue. It answers the bytes taken,
	// or EAGAIN.
	SendNow(fd int, parts [][]byte) (int, error)
	// PrepareDatagrams makes the buffers of OpReceiveDatagrams, if there are none yet. It may
	// fail for want of memory.
	PrepareDatagrams() error
	// SendDatagramNow sends p as one datagram to addr, a raw sockaddr (empty on a
	// connected socket), if that takes no waiting; else it answers EAGAIN.
	SendDatagramNow(fd int, p, addr []byte) error
	// WriteNow is SendNow for what is no socket.
	WriteNow(fd int, parts [][]byte) (int, error)
	// Attach makes the calling thread the driver's. It answers false when it is
	// already, or the driver is any thread's. Otherwise operations under way are gone without an answer;
	// completions that existed remain and are reaped as ever.
	Attach() (moved bool, err error)
	// Stats answers counters since the driver was made.
	Stats() DriverStats
	// Close frees everything. Operations still under way end without an answer.
	Close() error
}

// DriverStats counts what a driver did.
type DriverStats struct {
	Enters       uint64 // system calls that hand over or wait
	EntersSubmit uint64 // of these, with something to hand over and no wait
	EntersWait   uint64 // of these, that could sleep
	EntersWakeup uint64 // of these, only to wake the submission thread
	Submitted    uint64 // operations
	Completions  uint64
	Overflows    uint64 // times the completion queue was found to have overflowed
	BuffersOut   uint64 // gauge: receive buffers not in the kernel's hands
}
