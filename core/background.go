package core

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
)

// background is the loop of the process for goroutines that have none of their own.
var background struct {
	mu   sync.Mutex
	loop *Loop // nil: not yet, or it has failed
	// failed are kept, as the kernel may still use memory that these refer to.
	failed []*Loop
}

// Background answers the background loop of the process, which is started when it is first
// asked for and then runs for ever, in a thread of its own. Others must neither stop nor
// close it.
func Background() (*Loop, error) { return BackgroundOn("") }

// BackgroundOn is Background, which is made on this driver if it does not run yet.
func BackgroundOn(driver DriverName) (*Loop, error) {
	background.mu.Lock()
	defer background.mu.Unlock()
	if background.loop != nil {
		return background.loop, nil
	}
	made := make(chan error)
	go runBackground(driver, made)
	if err := <-made; err != nil {
		return nil, err
	}
	return background.loop, nil
}

// RunningBackground is Background if it runs already; nil: it does not.
func RunningBackground() *Loop {
	background.mu.Lock()
	defer background.mu.Unlock()
	return background.loop
}

// runBackground makes the loop in the thread that runs it: a ring that another thread has
// made would have to be made anew.
func runBackground(driver DriverName, made chan<- error) {
	runtime.LockOSThread()
	loop, err := NewLoop(LoopOptions{Driver: driver})
	if err != nil {
		runtime.UnlockOSThread()
		made <- err
		return
	}
	background.loop = loop // Background holds the lock, and waits
	made <- nil
	// It ends only when the driver is broken. The next who asks gets another loop; the
	// thread ends with this goroutine, which leaves it locked.
	broken := runContained(loop)
	background.mu.Lock()
	background.loop = nil
	if broken != nil {
		background.failed = append(background.failed, loop)
	}
	background.mu.Unlock()
	if broken != nil {
		loop.abandon()
	} else {
		_ = loop.Close()
	}
}

// abandon ends a loop of whose state nothing is known any more: all who wait for it are told, as by Close, and what is
// posted never runs. Its descriptors stay open, as others may be about to wake it.
func (l *Loop) abandon() {
	l.engine.closed = true
	close(l.ended)
}

// runContained runs a loop, and answers its panic as an error, or that of its driver: the process may be another's than
// Go's, and what waits for the loop has limits of its own. Nothing is known then of the loop's state.
func runContained(loop *Loop) (broken error) {
	defer func() {
		if r := recover(); r != nil {
			broken = fmt.Errorf("kloop: the background loop has failed: %v\n%s", r, debug.Stack())
		}
	}()
	return loop.Run(context.Background())
}

// Descriptors answers the loop's own: that of its ring or set, and the eventfd that wakes it.
func (l *Loop) Descriptors() (driver, wake int) {
	switch driver := l.engine.driver.(type) {
	case *UringDriver:
		return int(driver.Ring().Words().FD), l.engine.WakeFD()
	case *EpollDriver:
		return int(driver.Set().Words().FD), l.engine.WakeFD()
	}
	return -1, l.engine.WakeFD()
}
