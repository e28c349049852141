"""TLS connections that are handed over once they have carried enough: in the middle of what passes."""

import asyncio
import contextlib
import random
import ssl

import pytest
from driving import in_thread, run
from peers import connected, pattern
from recorders import BufferedRecorder, Echo, Recorder
from test_tls_handover import MUCH, both_ends, log_size, who
from test_tls_key_update import openssl, tls13
from tls_wire import WirePeer, serving

AFTER = 100_000
WAITING = ("ssl", "ssl", "it has carried too little for a hand-over to pay so far")
SEEDS = 25


@pytest.fixture
def loop(kloop, request):
    after = getattr(request, "param", AFTER)
    loop = kloop.new_event_loop(tls=kloop.TLSOptions(offload="auto", after=after))
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def client_context(request, certificate):
    context = certificate.client()
    context.minimum_version = context.maximum_version = request.param
    return context


def handed_over(*transports):
    """Whether the kernel or Go has the records."""
    return all(set(who(transport)[:2]) <= {"kernel", "go"} for transport in transports)


def counts(loop):
    stats = loop.stats()
    return stats["tls_kernel"] + stats["tls_go"], stats["tls_ssl"]


class Alternating(Recorder):
    """Insists on pause_writing() and resume_writing() in turn."""

    paused = False

    def pause_writing(self):
        assert not self.paused
        self.paused = True
        super().pause_writing()

    def resume_writing(self):
        assert self.paused
        self.paused = False
        super().resume_writing()


@contextlib.asynccontextmanager
async def talking(loop, certificate, context, make):
    """The protocols of a connection's client and server, both made by make and connected. Both must end well."""
    made = []

    def factory():
        made.append(make())
        return made[-1]

    async with serving(loop, factory, certificate.server()) as address:
        transport, client = await loop.create_connection(make, *address, ssl=context, server_hostname="localhost")
        await made[0].called("connection_made")
        yield client, made[0]
        transport.close()
        for protocol in (client, made[0]):
            await protocol.called("connection_lost")
            assert protocol.lost_with is None


def test_a_short_connection_is_never_handed_over(loop, certificate, client_context):
    async def main():
        async with both_ends(loop, certificate.server(), client_context) as (server, client, protocol):
            client.write(pattern(AFTER // 4))
            await protocol.received(1 + AFTER // 4)
            assert who(server) == who(client) == WAITING
            assert counts(loop) == (0, 2)
            assert log_size() == 0      # the secrets are with the connections

    run(loop, main())


@pytest.mark.parametrize("loop", [0, AFTER], indirect=True)
def test_a_handshake_of_many_bytes(loop, certificate, client_context, tmp_path):
    """A chain of 30 KiB, of which the first certificate is enough."""
    text = certificate.certificate.read_text()
    chain = tmp_path / "chain.pem"
    chain.write_text(text * (30 * 1024 // len(ssl.PEM_cert_to_DER_cert(text))))
    context = certificate.server()
    context.load_cert_chain(chain, certificate.key)
    data = pattern(AFTER)

    async def main():
        async with both_ends(loop, context, client_context) as (server, client, protocol):
            client.write(data)
            await protocol.received(1 + len(data))
            assert protocol.data[1:] == data
            await asyncio.sleep(0)
            assert handed_over(server, client)

    run(loop, main())


@pytest.mark.parametrize("make", [Alternating, lambda: BufferedRecorder(1000)], ids=["Protocol", "BufferedProtocol"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_data_of_one_direction(loop, certificate, client_context, direction, make):
    """The other direction has no record, or a TLS 1.3 client its session tickets."""
    data = pattern(MUCH)

    async def main():
        async with talking(loop, certificate, client_context, make) as ends:
            sender, receiver = reversed(ends) if direction == "down" else ends
            for begin in range(0, MUCH, 10_000):
                sender.transport.write(data[begin:begin + 10_000])
                await receiver.received(begin + 10_000)
            assert receiver.data == data
            assert handed_over(*(end.transport for end in ends))
            assert counts(loop) == (2, 0)

    run(loop, main())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_in_the_middle_of_anything(kloop, certificate, client_context, seed):
    """Writes of all sizes, both ways at once, pauses; ends that are handed over at different times, or one of them."""
    choice = random.Random(seed)
    data = pattern(choice.choice([2_000, 50_000, 1_000_000]), seed=seed)
    after = choice.choice([1, 1_000, 30_000, len(data), 10 * len(data)])
    loop = kloop.new_event_loop(tls=kloop.TLSOptions(offload="auto", after=after))

    class Pausing(Recorder):
        """Stops reading now and then, for a turn of the loop."""

        def data_received(self, received):
            super().data_received(received)
            if choice.random() < 0.3:
                self.transport.pause_reading()
                loop.call_soon(self.resume)

        def resume(self):
            if "connection_lost" not in self.calls:
                self.transport.resume_reading()

    async def send(protocol):
        begin = 0
        while begin < len(data):
            size = choice.choice([1, 100, 5_000, 16_384, 70_000, 400_000])
            protocol.transport.write(data[begin:begin + size])
            begin += size
            if choice.random() < 0.5:
                await asyncio.sleep(0)

    async def main():
        async with talking(loop, certificate, client_context, Pausing) as (client, server):
            await asyncio.gather(send(client), send(server), client.received(len(data)), server.received(len(data)))
            assert client.data == server.data == data
            if after == 10 * len(data) and len(data) > 10_000:    # of fewer, records count more than bytes
                assert who(client.transport) == who(server.transport) == WAITING
            elif after < len(data):
                assert handed_over(client.transport, server.transport)

    run(loop, main())
    loop.close()


@pytest.mark.parametrize("loop", [1, 3_000_000], indirect=True)
def test_a_large_write_of_which_a_part_is_encrypted(loop, certificate, client_context):
    """The peer does not read: the application is asked to pause, once, and to resume, once, whoever encrypts."""
    data = pattern(8_000_000)

    async def main():
        made = []

        def factory():
            made.append(Alternating())
            return made[-1]

        async with serving(loop, factory, certificate.server()) as address:
            sock = await in_thread(connected, address)
            peer = await in_thread(lambda: WirePeer(sock, client_context).handshake())
            protocol = made[0]
            await protocol.called("connection_made")
            protocol.transport.write(data)
            await protocol.called("pause_writing")
            assert protocol.transport.get_write_buffer_size() > 0
            got = await in_thread(peer.read, len(data))
            assert got == data
            await protocol.called("resume_writing")
            assert protocol.calls.count("pause_writing") == protocol.calls.count("resume_writing") == 1
            assert handed_over(protocol.transport)
            peer.close()
            await protocol.called("connection_lost")

    run(loop, main())


@pytest.mark.parametrize("loop", [1], indirect=True)
@pytest.mark.parametrize("step", [1, 3, 700])
def test_a_record_in_pieces(loop, certificate, client_context, step):
    """The hand-over comes while a record is on its way."""
    data = pattern(3_000)

    def talk(address):
        peer = WirePeer(connected(address), client_context).handshake()
        peer.send(peer.seal(data) + peer.seal(data), step)
        answer = peer.read(2 * len(data))
        peer.close()
        return answer

    async def main():
        async with serving(loop, Echo, certificate.server()) as address:
            assert await in_thread(talk, address) == data + data

    run(loop, main())
    assert counts(loop) == (1, 0)


def test_keys_that_were_updated_before(loop, certificate):
    """The secrets of the handshake are of no use then: the SSLObject goes on for good."""
    async def main():
        made = []

        def factory():
            made.append(Echo())
            return made[-1]

        async with serving(loop, factory, tls13(certificate.server())) as address:
            async with openssl("s_client", "-connect", "{}:{}".format(*address), "-CAfile",
                               certificate.certificate) as client:
                await client.says(b"Verify return code: 0 (ok)")
                await client.type(b"K\n")
                await client.says(b"KEYUPDATE")
                line = b"x" * 5_000 + b"\n"
                for _ in range(2 * AFTER // len(line)):
                    await client.type(line)
                await client.type(b"that is all\n")
                await client.says(b"that is all\n")
                assert who(made[0].transport) == (
                    "ssl", "ssl",
                    "the last record is not of the handshake's last key, or not the one that was counted")
        assert counts(loop) == (0, 1)

    run(loop, main())


@pytest.mark.parametrize("value", ["-1", "many", str(1 << 63)])
def test_the_environment_has_no_number(kloop, monkeypatch, value):
    monkeypatch.setenv("KLOOP_TLS_AFTER", value)
    with pytest.raises(ValueError, match=f"KLOOP_TLS_AFTER={value!r}: give a number of bytes, or 0"):
        kloop.TLSOptions(offload="auto")
    assert kloop.TLSOptions(offload="go").after == 0


def test_the_environment_tells_after_how_many_bytes(kloop, monkeypatch):
    monkeypatch.delenv("KLOOP_TLS_AFTER", raising=False)
    assert kloop.TLSOptions(offload="auto").after == 256 * 1024
    monkeypatch.setenv("KLOOP_TLS_AFTER", "12")
    assert kloop.TLSOptions(offload="auto").after == 12
    assert kloop.TLSOptions(offload="auto", after=7).after == 7
    with pytest.raises(ValueError, match="after=-7: give a number of bytes, or 0"):
        kloop.TLSOptions(after=-7)
