"""Protocols that write down what a loop calls, and let a test wait for what it expects."""

import asyncio

from driving import LIMIT_S


class Recorder(asyncio.Protocol):
    """Keeps the names of the calls in order, and the received bytes."""

    def __init__(self, keep_open=False):
        self.keep_open = keep_open
        self.calls = []
        self.data = bytearray()
        self.transport = None
        self.lost_with = None
        self._expected = []     # (condition, future)

    def note(self, name):
        self.calls.append(name)
        for condition, future in self._expected:
            if not future.done() and condition():
                future.set_result(None)

    async def until(self, condition):
        """Returns once condition() holds after a call of the loop."""
        if condition():
            return
        entry = (condition, asyncio.get_running_loop().create_future())
        self._expected.append(entry)
        try:
            await asyncio.wait_for(entry[1], LIMIT_S)
        finally:
            self._expected.remove(entry)

    async def called(self, name, times=1):
        await self.until(lambda: self.calls.count(name) >= times)

    async def received(self, size):
        await self.until(lambda: len(self.data) >= size)

    def connection_made(self, transport):
        self.transport = transport
        self.note("connection_made")

    def data_received(self, data):
        self.data += data
        self.note("data_received")

    def eof_received(self):
        self.note("eof_received")
        return self.keep_open

    def connection_lost(self, exc):
        self.lost_with = exc
        self.note("connection_lost")

    def pause_writing(self):
        self.note("pause_writing")

    def resume_writing(self):
        self.note("resume_writing")


class BufferedRecorder(asyncio.BufferedProtocol):
    """As Recorder, for a protocol that owns its buffer of a given size (bytes)."""

    def __init__(self, size, keep_open=False):
        Recorder.__init__(self, keep_open)
        self.buffer = bytearray(size)

    note = Recorder.note
    until = Recorder.until
    called = Recorder.called
    received = Recorder.received
    connection_made = Recorder.connection_made
    eof_received = Recorder.eof_received
    connection_lost = Recorder.connection_lost
    pause_writing = Recorder.pause_writing
    resume_writing = Recorder.resume_writing

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.data += self.buffer[:nbytes]
        self.note("buffer_updated")


class Echo(asyncio.Protocol):
    """Sends back what comes; stops reading while its own answers pile up."""

    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.transport.close()      # else the TLS transport of Python 3.10 warns, whatever the loop
        if not self.lost.done():
            self.lost.set_result(exc)

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()
