package main

import (
	"os/exec"
	"testing"
	"time"
)

// observeCommand runs a command and its account through some ticks.
func observeCommand(t *testing.T, ticks int, command ...string) (starvedNS, usedNS int64) {
	t.Helper()
	c := exec.Command(command[0], command[1:]...)
	if err := c.Start(); err != nil {
		t.Skip(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	a, err := newAccount(c.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	begin, err := a.read()
	if err != nil {
		t.Fatal(err)
	}
	ticker := time.NewTicker(tickMS * time.Millisecond)
	defer ticker.Stop()
	for range ticks {
		<-ticker.C
		ns, err := a.starved(tickMS * int64(time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		starvedNS += ns
	}
	end, err := a.read()
	if err != nil {
		t.Fatal(err)
	}
	return starvedNS, end.since(begin).serverCPUns
}

func TestASleeperIsNotStarved(t *testing.T) {
	const ticks = 10
	starved, used := observeCommand(t, ticks, "sleep", "60")
	if limit := ticks * tickMS * int64(time.Millisecond) / 4; starved > limit || used > limit {
		t.Errorf("a process that sleeps: starved for %v, used %v", time.Duration(starved), time.Duration(used))
	}
}

func TestTwoOnOneCoreAreStarved(t *testing.T) {
	busy := []string{"taskset", "-c", "0", "sh", "-c", "while :; do :; done"}
	other := exec.Command(busy[0], busy[1:]...)
	if err := other.Start(); err != nil {
		t.Skip(err)
	}
	defer other.Wait()
	defer other.Process.Kill()
	const ticks = 20
	starved, used := observeCommand(t, ticks, busy...)
	whole := ticks * tickMS * int64(time.Millisecond)
	if sum := starved + used; sum < whole*3/4 || sum > whole*5/4 || starved < whole/5 {
		t.Errorf("one of two on a core, over %v: starved for %v, used %v",
			time.Duration(whole), time.Duration(starved), time.Duration(used))
	}
}
