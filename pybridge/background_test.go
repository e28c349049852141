package main

import (
	"testing"
	"time"
)

// A background loop that has failed is replaced, and what it had open is told of to the end.
func TestTheBackgroundLoopIsReplaced(t *testing.T) {
	if err := startBackground(""); err != nil {
		t.Fatal(err)
	}
	failed := background.loop.Load()
	failed.Post(func() { panic("as a test wants it") })
	select {
	case <-failed.Done():
	case <-time.After(hostTimeLimit):
		t.Fatal("it goes on")
	}
	if err := startBackground(""); err != nil {
		t.Fatal(err)
	}
	next := background.loop.Load()
	if next == failed || next.Ended() {
		t.Fatal("the failed one is used")
	}
	ran := make(chan struct{})
	next.Post(func() { close(ran) })
	<-ran
	if err := startBackground(""); err != nil || background.loop.Load() != next {
		t.Errorf("another one each time: %v", err)
	}
}
