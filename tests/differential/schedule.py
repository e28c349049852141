"""Callbacks, timers, futures and tasks under scripts: in which order things run, and what is cancelled."""

from __future__ import annotations

import asyncio

from hypothesis import strategies as st

from .world import World

LANE = "order"
AFTER_TIMERS = "after timers"
# No two timers of a script are due at the same time: which runs first then is a matter of the heap.
STEP_S = 0.0007
STEPS = 12
COUNT = 8


class Schedule:
    """Handles, futures and tasks by the numbers that the script gives them."""

    def __init__(self, world: World):
        self.world = world
        self.serial = 0
        self.handles: dict[int, asyncio.Handle] = {}
        self.futures: dict[int, asyncio.Future] = {}
        self.tasks: dict[int, asyncio.Task] = {}

    def run(self, number: int, then: str) -> None:
        self.world.note(LANE, "ran", number)
        if then == "raise":
            raise ZeroDivisionError(number)
        if then == "soon":
            self.handles[number + 100] = self.world.loop.call_soon(self.run, number + 100, "nothing")
        elif then == "soon after a timer":
            self.handles[number + 100] = self.world.loop.call_soon(
                self.world.note, AFTER_TIMERS, "ran", number)
        elif then == "cancel":
            self.cancel(number + 1)
        elif then == "cancel all":
            for handle in self.handles.values():
                handle.cancel()

    def soon(self, number: int, then: str) -> None:
        self.handles[number] = self.world.loop.call_soon(self.run, number, then)

    def threadsafe(self, number: int, then: str) -> None:
        self.handles[number] = self.world.loop.call_soon_threadsafe(self.run, number, then)

    def timer(self, number: int, then: str, steps: int) -> None:
        self.serial += 1
        # The fraction makes it unique.
        when_s = self.world.burst_s + (steps + self.serial / 1000) * STEP_S * self.world.patience
        if then == "soon":      # before the next timer or behind it, as time passes
            then = "soon after a timer"
        self.handles[number] = self.world.loop.call_at(when_s, self.run, number, then)

    def later(self, number: int, then: str, delay_s: float) -> None:
        """Due at once, and behind what is ready."""
        self.handles[number] = self.world.loop.call_later(delay_s, self.run, number, then)

    def cancel(self, number: int) -> None:
        handle = self.handles.get(number)
        if handle is not None:
            before = handle.cancelled()
            handle.cancel()
            self.world.note(LANE, "cancel", number, before, handle.cancelled())

    def future(self, number: int) -> None:
        if number not in self.futures:
            future = self.futures[number] = self.world.loop.create_future()
            future.add_done_callback(lambda done: self.world.note(LANE, "future", number, done.cancelled()))

    def settle_future(self, number: int, how: str) -> None:
        future = self.futures.get(number)
        if future is None:
            return
        if how == "cancel":
            self.world.note(LANE, "future cancel", number, future.cancel())
        else:
            self.world.attempt(LANE, "set_result", future.set_result, number)

    def task(self, number: int, turns: int) -> None:
        async def work():
            try:
                for turn in range(turns):
                    self.world.note(LANE, "task", number, turn)
                    await asyncio.sleep(0)
                if number in self.futures:
                    result = await self.futures[number]
                    self.world.note(LANE, "task got", number, result)
            except asyncio.CancelledError:
                self.world.note(LANE, "task cancelled", number)
                raise

        task = self.tasks[number] = self.world.loop.create_task(work())
        self.world.tasks.append(task)

    def cancel_task(self, number: int) -> None:
        task = self.tasks.get(number)
        if task is not None:
            self.world.note(LANE, "task cancel", number, task.cancel())

    def wait_for(self, number: int, delay_s: float) -> None:
        if number in self.futures:
            waited = asyncio.wait_for(asyncio.shield(self.futures[number]), delay_s * self.world.patience)
            self.world.start(f"wait_for {number}", "wait_for", waited)

    def pump(self) -> None:
        pass

    def owes(self) -> bool:
        """Timers and time limits may be still to come."""
        return self.world.loop.time() < self.world.burst_s + STEPS * STEP_S * self.world.patience

    def finish(self) -> None:
        pass

    def end(self) -> None:
        for future in self.futures.values():
            future.cancel()


async def begin(world: World, setup) -> None:
    world.things.append(Schedule(world))


def perform(world: World, operation) -> None:
    name, *args = operation
    getattr(world.things[0], name)(*args)


def operations():
    numbers = st.integers(0, COUNT)
    thens = st.sampled_from(("nothing", "nothing", "raise", "soon", "cancel", "cancel all"))
    return st.one_of(
        st.tuples(st.sampled_from(("soon", "threadsafe")), numbers, thens),
        st.tuples(st.just("timer"), numbers, thens, st.integers(-2, STEPS - 2)),
        st.tuples(st.just("later"), numbers, thens, st.sampled_from((0, -1))),
        st.tuples(st.just("cancel"), numbers),
        st.tuples(st.just("future"), numbers),
        st.tuples(st.just("settle_future"), numbers, st.sampled_from(("result", "cancel"))),
        st.tuples(st.just("task"), numbers, st.integers(0, 3)),
        st.tuples(st.just("cancel_task"), numbers),
        st.tuples(st.just("wait_for"), numbers, st.sampled_from((0, 0.003))),
    )


def scripts():
    return st.tuples(st.just(()),
                     st.lists(st.lists(operations(), min_size=1, max_size=8).map(tuple), max_size=5).map(tuple))
