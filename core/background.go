package core

import (
	"context"
	"runtime"
	"sync"
)

// background is the loop of the process for goroutines that have none of their own.
var background struct {
	mu   sync.Mutex
	loop *Loop // nil: not yet, or it has failed
}

// Background answers the background loop of the process, which is started when it is first
// asked for and then runs for ever, in a thread of its own. Others must neither stop nor
// close it.
func Background() (*Loop, error) {
	background.mu.Lock()
	defer background.mu.Unlock()
	if background.loop != nil {
		return background.loop, nil
	}
	made := make(chan error)
	go runBackground(made)
	if err := <-made; err != nil {
		return nil, err
	}
	return background.loop, nil
}

// runBackground makes the loop in the thread that runs it: a ring that another thread has
// made would have to be made anew.
func runBackground(made chan<- error) {
	runtime.LockOSThread()
	loop, err := NewLoop(LoopOptions{})
	if err != nil {
		runtime.UnlockOSThread()
		made <- err
		return
	}
	background.loop = loop // Background holds the lock, and waits
	made <- nil
	// It ends only when the driver is broken. The next who asks gets another loop; the
	// thread ends with this goroutine, which leaves it locked.
	_ = loop.Run(context.Background())
	background.mu.Lock()
	background.loop = nil
	background.mu.Unlock()
	_ = loop.Close()
}
