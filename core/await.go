package core

import "fmt"

// awaitTries bounds how often the kernel is asked for the last completion of
// operations that were cancelled. One is what it takes for sockets.
const awaitTries = 1000

// awaitStepNS is how long each try but the first waits.
const awaitStepNS = 5_000_000

// handOver gives the kernel what is queued and looks for completions, which
// join those not yet handled.
func (e *Engine) handOver(timeoutNS int64) {
	e.driver.Flush()
	if err := e.driver.Wait(timeoutNS); err != nil && !isRetry(err) {
		panic(fmt.Sprintf("kloop: %s driver: %v", e.driver.Name(), err))
	}
	e.ready.fillAll(e.driver)
}

// mustAttach is for what must be done now, in whatever thread.
func (e *Engine) mustAttach() {
	if err := e.Attach(); err != nil {
		panic(fmt.Sprintf("kloop: %s driver in another thread: %v", e.driver.Name(), err))
	}
}

// awaitEnd ends the operation with this token now, and gives take its completions,
// all that exist. It goes on while armed says so.
func (e *Engine) awaitEnd(token Token, armed func() bool, take func(done *Completion)) {
	for try := range awaitTries {
		// What is queued must be in the kernel before it can be cancelled there.
		e.handOver(int64(min(try, 1)) * awaitStepNS)
		e.ready.each(func(done *Completion) bool {
			if done.Token != token {
				return false
			}
			take(done)
			return true
		})
		if !armed() {
			return
		}
		if err := e.driver.SyncCancel(token); err != nil && !isRetry(err) {
			panic(fmt.Sprintf("kloop: %s driver: synchronous cancel: %v", e.driver.Name(), err))
		}
	}
	panic("kloop: a cancelled operation does not end")
}
