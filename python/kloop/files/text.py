"""Files of text, above files of bytes."""

from __future__ import annotations

import codecs
import io
import os
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .descriptor import Turn, read_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from .buffered import BufferedFile

Self = TypeVar('Self', bound='TextFile')

# How many bytes are decoded at a time: as io.TextIOWrapper's, so that a file written to in the
# middle of reading it has the same bytes.
CHUNK_SIZE = 8192


class _Chunk(NamedTuple):
    """A piece of what was decoded, and where it comes from."""

    start: int      # of data, counted in bytes given to the decoder since it was reset
    flags: int      # of the decoder before it, with nothing left to decode
    data: bytes
    characters: int


class _Position(NamedTuple):
    """What tell() answers, packed into a number; by the rules of io.TextIOWrapper, as a write at a position that
    seek() went to is at the end of what it had to read for it."""

    place: int          # in the file
    flags: int = 0      # of the decoder there
    feed: int = 0       # bytes to decode from there,
    final: bool = False     # as the last ones,
    skip: int = 0       # and characters of them that are before the position

    def pack(self) -> int:
        return self.place | self.flags << 64 | self.feed << 128 | self.skip << 160 | self.final << 192

    @classmethod
    def unpack(cls, number: int) -> _Position:
        return cls(number & (1 << 64) - 1, number >> 64 & (1 << 64) - 1, number >> 128 & (1 << 32) - 1,
                   bool(number >> 192 & 1), number >> 160 & (1 << 32) - 1)


class TextFile:
    """An open file of text. Made by ``kloop.open``; its methods are for the loop's thread.

    As io.TextIOWrapper's: ``encoding``, ``errors`` and ``newline`` mean the same, and ``tell`` answers a number
    that is only good for ``seek``. ``buffer`` is the file of bytes below.
    """

    def __init__(self, buffer: BufferedFile, mode: str, wrapper: io.TextIOWrapper, newline: str | None,
                 line_buffering: bool) -> None:
        self.buffer = buffer
        self.mode = mode
        self.encoding = wrapper.encoding
        self.errors = wrapper.errors
        self.line_buffering = line_buffering
        self._turn = Turn()
        self._newline = newline
        self._line_end = None if newline == '' else newline or '\n'
        self._decoder: Any = None
        self._text = ''         # decoded
        self._used = 0          # of it
        self._chunks: deque[_Chunk] = deque()   # of it
        self._dropped: list[_Chunk] | None = None   # what readlines() may have to put back
        self._fed = 0           # bytes that the decoder had since it was reset
        self._ratio = 0.0       # bytes a character in the last chunk that was read
        self._encoder: Any = None
        if buffer._writable:
            self._encoder = codecs.getincrementalencoder(self.encoding)(self.errors or 'strict')
            if buffer._seekable and buffer._handle.seek_now(0, os.SEEK_CUR) != 0:
                self._encoder.setstate(0)       # no byte order mark in the middle

    # ---- what it is

    @property
    def name(self) -> Any:
        """What was given to open()."""
        return self.buffer.name

    @property
    def closed(self) -> bool:
        """Whether it is closed, or is being closed."""
        return self.buffer.closed

    @property
    def newlines(self) -> str | tuple[str, ...] | None:
        """The ends of lines seen so far, if newline is None or ''."""
        found: str | tuple[str, ...] | None = getattr(self._decoder, 'newlines', None)
        return found

    def fileno(self) -> int:
        """The descriptor."""
        return self.buffer.fileno()

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        return self.buffer.readable()

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self.buffer.writable()

    def seekable(self) -> bool:
        """Whether it has a position."""
        return self.buffer.seekable()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.buffer.isatty()

    def __repr__(self) -> str:
        state = 'closed ' if self.closed else ''
        return (f'<{state}kloop.files.{type(self).__name__} name={self.name!r} mode={self.mode!r} '
                f'encoding={self.encoding!r}>')

    # ---- reading

    async def read(self, size: int | None = -1) -> str:
        """Reads up to size characters; all that are left, if it is negative or None."""
        self.buffer._check_readable()
        async with self._turn:
            if size is None or size < 0:
                return await self._read_all()
            while len(self._text) - self._used < size:
                if not await self._decode_chunk():
                    break
            return self._take(min(size, len(self._text) - self._used))

    async def _read_all(self) -> str:
        data = await self.buffer.read()
        text: str = self._text[self._used:] + self._get_decoder().decode(data, final=True)
        self._drop_decoded()
        return text

    async def readline(self, size: int | None = -1) -> str:
        """Reads up to the end of the line, which is part of it, and at most size characters."""
        if self._line_end == '\n' and (size is None or size < 0) and not self._turn.locked():
            end = self._text.find('\n', self._used) + 1
            if end:
                self.buffer._check_readable()
                return self._take(end - self._used)
        self.buffer._check_readable()
        async with self._turn:
            return await self._read_line(-1 if size is None else size)

    async def _read_line(self, size: int) -> str:
        searched = 0
        while True:
            end = self._find_line_end(self._used + searched)
            have = (end or len(self._text)) - self._used
            if 0 <= size <= have:
                return self._take(size)
            if end:
                return self._take(have)
            searched = max(have - 1, 0)     # half of '\r\n' may be there
            if not await self._decode_chunk():
                line = self._text[self._used:]
                self._drop_decoded()
                return line

    def _find_line_end(self, start: int) -> int:
        """Where the line ends that goes on at start, or 0."""
        text = self._text
        if self._line_end is not None:
            at = text.find(self._line_end, start)
            return 0 if at < 0 else at + len(self._line_end)
        feed, carriage = text.find('\n', start), text.find('\r', start)
        if carriage < 0 or 0 <= feed < carriage:
            return feed + 1
        return carriage + (2 if feed == carriage + 1 else 1)

    async def readlines(self, hint: int | None = -1) -> list[str]:
        """Reads lines until the end, or until they have more than hint characters together."""
        self.buffer._check_readable()
        async with self._turn:
            self._drop_used()
            used = self._used
            before = self._text[:used]
            dropped = self._dropped = []

            def put_back(text: str) -> None:
                self._text, self._used = before + text + self._text[self._used:], used
                self._chunks.extendleft(reversed(dropped))

            try:
                return await read_lines(self._read_line, hint, put_back, '')
            finally:
                self._dropped = None

    def __aiter__(self) -> AsyncIterator[str]:
        self.buffer._check_open()
        return self

    async def __anext__(self) -> str:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    # ---- decoding

    def _get_decoder(self) -> Any:
        if self._decoder is None:
            self._decoder = codecs.getincrementaldecoder(self.encoding)(self.errors or 'strict')
            if not self._newline:
                self._decoder = io.IncrementalNewlineDecoder(self._decoder, translate=self._newline is None)
        return self._decoder

    async def _decode_chunk(self) -> bool:
        """Decodes what one read gives, behind what is decoded already; answers False at the end of the file."""
        decoder = self._get_decoder()
        data = await self.buffer.read1(CHUNK_SIZE)
        left, flags = decoder.getstate()
        text = decoder.decode(data, final=not data)
        start = self._fed - len(left)
        self._fed += len(data)
        if self._used:
            self._drop_used()
        self._text += text
        self._chunks.append(_Chunk(start, flags, left + data, len(text)))
        self._ratio = len(data) / len(text) if text else 0.0
        return bool(data or text)

    def _take(self, size: int) -> str:
        at = self._used
        self._used = end = at + size
        return self._text[at:end]

    def _drop_used(self) -> None:
        """Forgets what was taken, by whole chunks; the last one tells where the decoder is."""
        used = 0
        while len(self._chunks) > 1 and used + self._chunks[0].characters <= self._used:
            chunk = self._chunks.popleft()
            used += chunk.characters
            if self._dropped is not None:
                self._dropped.append(chunk)
        if used:
            self._text, self._used = self._text[used:], self._used - used

    def _drop_decoded(self) -> None:
        if self._dropped is not None:
            self._dropped.extend(self._chunks)
        self._text, self._used = '', 0
        self._chunks.clear()

    def _reset_decoder(self) -> None:
        self._drop_decoded()
        self._fed = 0
        if self._decoder is not None:
            self._decoder.reset()

    # ---- writing

    async def write(self, text: str) -> int:
        """Writes text; answers the number of characters."""
        self.buffer._check_writable()
        if not isinstance(text, str):
            raise TypeError(f'write() argument must be str, not {type(text).__name__}')
        async with self._turn:
            ends = '\n' in text
            translated = text.replace('\n', self._line_end) if ends and self._line_end not in (None, '\n') else text
            await self.buffer.write(self._encoder.encode(translated))
            self._reset_decoder()
            if self.line_buffering and (ends or '\r' in text):
                await self.buffer.flush()
        return len(text)

    async def writelines(self, lines: Iterable[str]) -> None:
        """Writes each of lines; no separators are added."""
        self.buffer._check_open()
        for line in lines:
            await self.write(line)

    async def flush(self) -> None:
        """Gives the kernel what is buffered."""
        async with self._turn:
            await self.buffer.flush()

    async def fsync(self) -> None:
        """Flushes, and waits until the device has all of it (fsync(2))."""
        await self.buffer.fsync()

    async def fdatasync(self) -> None:
        """As fsync, without the times of the file (fdatasync(2))."""
        await self.buffer.fdatasync()

    # ---- the position

    def _check_seekable(self) -> None:
        self.buffer._check_open()
        if not self.buffer._seekable:
            raise io.UnsupportedOperation('underlying stream is not seekable')

    async def tell(self) -> int:
        """The position, as a number for seek()."""
        self._check_seekable()
        async with self._turn:
            return await self._tell()

    async def _tell(self) -> int:
        await self.buffer.flush()
        place = await self.buffer.tell()
        self._drop_used()
        if not self._chunks:
            return place
        before = 0
        for chunk in self._chunks:
            if self._used < before + chunk.characters:
                break
            before += chunk.characters
        else:
            # All is taken, or what is left has given no character yet.
            chunk, before = self._chunks[-1], before - self._chunks[-1].characters
        where = self._locate(chunk, self._used - before)
        return where._replace(place=place - (self._fed - chunk.start) + where.place).pack()

    def _locate(self, chunk: _Chunk, characters: int) -> _Position:
        """Where so many characters of a chunk end; its place is counted from the chunk's start."""
        if characters == 0:
            return _Position(0, chunk.flags)
        decoder = self._decoder
        state = decoder.getstate()
        try:
            return self._feed_by_bytes(chunk, characters, *self._jump_near(chunk, characters))
        finally:
            decoder.setstate(state)

    def _jump_near(self, chunk: _Chunk, characters: int) -> tuple[int, int, int]:
        """A place not behind so many characters, and close to it, where the decoder keeps nothing back: bytes,
        the decoder's state there, and the characters before it. The decoder is there."""
        decoder, at, back = self._decoder, int(self._ratio * characters), 1
        while at > 0:
            decoder.setstate((b'', chunk.flags))
            count = len(decoder.decode(chunk.data[:at]))
            if count <= characters:
                kept, flags = decoder.getstate()
                if not kept:
                    return at, flags, count
                at -= len(kept)
                back = 1
            else:
                at -= back
                back *= 2
        decoder.setstate((b'', chunk.flags))
        return 0, chunk.flags, 0

    def _feed_by_bytes(self, chunk: _Chunk, characters: int, place: int, flags: int, before: int) -> _Position:
        """Goes on from there, byte by byte, to the last place where the decoder keeps nothing back."""
        decoder, skip, feed, count = self._decoder, characters - before, 0, 0
        if skip == 0:
            return _Position(place, flags)
        for at in range(place, len(chunk.data)):
            count += len(decoder.decode(chunk.data[at:at + 1]))
            feed += 1
            kept, state = decoder.getstate()
            if not kept and count <= skip:
                place, flags, skip, feed, count = place + feed, state, skip - count, 0, 0
            if count >= skip:
                return _Position(place, flags, feed, False, skip)
        return _Position(place, flags, feed, True, skip)

    async def seek(self, cookie: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a position that tell() has given, or to the start or end; answers it."""
        self._check_seekable()
        async with self._turn:
            if whence == os.SEEK_CUR:
                if cookie != 0:
                    raise io.UnsupportedOperation("can't do nonzero cur-relative seeks")
                cookie = await self._tell()
            elif whence == os.SEEK_END:
                if cookie != 0:
                    raise io.UnsupportedOperation("can't do nonzero end-relative seeks")
                await self.buffer.flush()
                place = await self.buffer.seek(0, os.SEEK_END)
                self._reset_decoder()
                self._reset_encoder(place)
                return place
            elif whence != os.SEEK_SET:
                raise ValueError(f'invalid whence ({whence}, should be 0, 1 or 2)')
            if cookie < 0:
                raise ValueError(f'negative seek position {cookie!r}')
            await self._go(cookie)
            return cookie

    async def _go(self, cookie: int) -> None:
        to = _Position.unpack(cookie)
        await self.buffer.flush()
        await self.buffer.seek(to.place)
        self._drop_decoded()
        self._fed = 0
        if self.readable():
            decoder = self._get_decoder()
            if to.place or to.flags:
                decoder.setstate((b'', to.flags))
            else:
                decoder.reset()
            data = await self.buffer.read(to.feed) if to.skip else b''
            self._text = decoder.decode(data, final=to.final) if to.skip else ''
            self._fed = len(data)
            self._chunks.append(_Chunk(0, to.flags, data, len(self._text)))
        if len(self._text) < to.skip:
            raise OSError("can't restore logical file position")
        self._used = to.skip
        self._reset_encoder(cookie)

    def _reset_encoder(self, place: int) -> None:
        if self._encoder is not None:
            if place == 0:
                self._encoder.reset()
            else:
                self._encoder.setstate(0)

    async def truncate(self, size: int | None = None) -> int:
        """Sets the size of the file in bytes; to the position of ``buffer``, which may have read ahead, if None."""
        self.buffer._check_writable()
        async with self._turn:
            await self.buffer.flush()
            return await self.buffer.truncate(size)

    # ---- its end

    async def close(self) -> None:
        """Flushes and closes the file, after all calls before it. The descriptor is closed whatever happens."""
        await self.buffer._close_behind(self._turn)

    aclose = close

    async def __aenter__(self: Self) -> Self:
        self.buffer._check_open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None,
                        trace: TracebackType | None) -> None:
        if kind is GeneratorExit:
            await self.buffer.__aexit__(kind, exc, trace)
        else:
            await self.close()
