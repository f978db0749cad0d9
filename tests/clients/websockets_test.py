"""Python's `websockets` against a running server, by its threading and by its asyncio client.

    websockets_test.py URL
"""

import asyncio
import itertools
import json
import os
import sys
import threading
from importlib.metadata import version

from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Opcode
from websockets.sync.client import connect as connect_sync

WAIT = 20  # seconds
MIB = 1 << 20
numbers = itertools.count()


def over_tls():
    return url.startswith("wss:")


def fresh_topic():
    return f"websockets-{os.getpid()}-{next(numbers)}"


def options(extension):
    """Of a connection with that extension, or with none."""
    extensions = [extension] if extension else None
    return {"compression": None, "extensions": extensions, "proxy": None, "max_size": 2 * MIB, "open_timeout": WAIT}


def open_sync(path, extension=None):
    return connect_sync(url + path, **options(extension))


def open_async(path, extension=None):
    return connect_async(url + path, max_queue=None, **options(extension))


QUOTES = json.dumps([{"symbol": "EURUSD", "bid": 1.08412, "ask": 1.08415}] * 40)
MESSAGES = ["", "plain", "žluťoučký 🐎 \0", "x" * 126, "x" * 65_536, b"", bytes(range(256)), os.urandom(65_536)]
MESSAGES += [QUOTES, QUOTES, QUOTES.encode() * 50, os.urandom(MIB), "y" * MIB]

EXTENSIONS = {
    "not compressed": None,
    "deflate": ClientPerMessageDeflateFactory(),
    "deflate, server_max_window_bits 9": ClientPerMessageDeflateFactory(server_max_window_bits=9),
    "deflate, client_max_window_bits 10": ClientPerMessageDeflateFactory(client_max_window_bits=10),
    "deflate, no context takeover": ClientPerMessageDeflateFactory(
        server_no_context_takeover=True, client_no_context_takeover=True
    ),
}


def exchange_sync(extension):
    path = f"/raw/{fresh_topic()}"
    with open_sync(path, extension) as one, open_sync(path, extension) as two:
        agreed = one.response.headers.get("Sec-WebSocket-Extensions", "")
        assert ("permessage-deflate" in agreed) == bool(extension), agreed
        for message in MESSAGES:
            for sender, receivers in ((one, (one, two)), (two, (two, one))):
                sender.send(message)
                for receiver in receivers:
                    received = receiver.recv(WAIT)
                    assert received == message and type(received) is type(message), f"{len(message)} of {type(message)}"


async def exchange_async(extension):
    path = f"/raw/{fresh_topic()}"
    async with open_async(path, extension) as one, open_async(path, extension) as two:
        for message in MESSAGES:
            await two.send(message)
            for receiver in (one, two):
                received = await asyncio.wait_for(receiver.recv(), WAIT)
                assert received == message and type(received) is type(message), f"{len(message)} of {type(message)}"


def fragments_sync(extension):
    path = f"/raw/{fresh_topic()}"
    texts, parts = ["fra", "gme", "", "nts 🐎"], [os.urandom(n * 10) for n in range(100)]
    with open_sync(path, extension) as one, open_sync(path, extension) as two:
        one.send(iter(texts))
        for client in (one, two):
            assert client.recv(WAIT) == "".join(texts)
        two.send(iter(parts))
        for client in (one, two):
            assert client.recv(WAIT) == b"".join(parts)


def pings_sync():
    with open_sync(f"/raw/{fresh_topic()}") as client:
        for payload in (b"", b"are you there", os.urandom(125)):
            assert client.ping(payload).wait(WAIT), "a pong"


async def pings_async():
    async with open_async(f"/raw/{fresh_topic()}") as client:
        for payload in (b"", b"are you there", os.urandom(125)):
            await asyncio.wait_for(await client.ping(payload), WAIT)


def closes_sync():
    for code, reason in ((1000, ""), (1000, "done"), (3000, "a library's"), (4999, "ž" * 61)):
        client = open_sync(f"/raw/{fresh_topic()}")
        client.close(code, reason)
        assert client.close_code == code, client.close_code
        assert client.protocol.close_rcvd.code == code, "the server answers with the code it was told"


def offence_sync(code, send):
    """What the server says to a client that breaks a rule."""
    with open_sync(f"/raw/{fresh_topic()}") as client:
        send(client)
        try:
            client.recv(WAIT)
        except ConnectionClosed as closed:
            assert closed.rcvd and closed.rcvd.code == code, closed
        else:
            raise AssertionError("not closed")


def send_bad_text(client):
    with client.send_context():
        client.protocol.send_text(b"h\xff")


def send_reserved(client):
    client.socket.sendall(bytes([0x80 | Opcode.PONG + 1, 0x80, 0, 0, 0, 0]))


def offences_sync():
    offence_sync(1002, send_reserved)
    offence_sync(1007, send_bad_text)
    offence_sync(1009, lambda client: client.send(bytes(MIB + 1)))


def refusals_sync():
    for path, status in (("/raw/", 400), ("/raw/%ff", 400), ("/metrics", 404)):
        try:
            open_sync(path)
        except InvalidStatus as refused:
            assert refused.response.status_code == status, refused
        else:
            raise AssertionError(f"{path} is not refused")


def check_orders(orders, senders, each):
    """Everybody received everything in one order, and the messages of each sender in theirs."""
    assert all(order == orders[0] for order in orders), "all receive in one order"
    for sender in range(senders):
        own = [n for who, n in map(str.split, orders[0]) if int(who) == sender]
        assert own == [str(n) for n in range(each)], f"messages of client {sender} keep their order"


def crowd_sync():
    path, count, each = f"/raw/{fresh_topic()}", 20, 20
    clients = [open_sync(path) for _ in range(count)]
    orders = [[] for _ in clients]

    def take_part(i):
        for n in range(each):
            clients[i].send(f"{i} {n}")
        orders[i] = [clients[i].recv(WAIT) for _ in range(count * each)]

    threads = [threading.Thread(target=take_part, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_orders(orders, count, each)
    for client in clients:
        client.close()


def crowd_size():
    """How many clients there are in one topic: over TLS fewer, for it takes this client long."""
    return 60 if over_tls() else 200


async def crowd_async(extension=None):
    path, count, each = f"/raw/{fresh_topic()}", crowd_size(), 5
    clients = await asyncio.gather(*(open_async(path, extension) for _ in range(count)))

    async def take_part(i):
        for n in range(each):
            await clients[i].send(f"{i} {n}")
        return [await asyncio.wait_for(clients[i].recv(), WAIT) for _ in range(count * each)]

    orders = await asyncio.gather(*(take_part(i) for i in range(count)))
    check_orders(orders, count, each)
    await asyncio.gather(*(client.close() for client in clients))


async def json_dialect():
    topic = fresh_topic()

    async def say(client, **command):
        await client.send(json.dumps(command))

    async def hear(client):
        return json.loads(await asyncio.wait_for(client.recv(), WAIT))

    rooms = [f"/?room={fresh_topic()}" for _ in range(2)]
    async with open_async(rooms[0]) as one, open_async(rooms[1], ClientPerMessageDeflateFactory()) as two:
        for client in (one, two):
            assert (await hear(client))["type"] == "connected"
            await say(client, type="subscribe", topics=[topic])
            assert await hear(client) == {"type": "subscribed", "topics": [{"topic": topic, "ok": True}]}
        data = {"bid": 1.5, "text": 'ž\n"🐎"' * 100, "list": [None, True, {}]}
        await say(one, type="publish", topic=topic, data=data)
        assert await hear(one) == data and await hear(two) == data
        await say(one, type="unsubscribe", topic=topic)
        assert (await hear(one))["topics"] == [{"topic": topic, "ok": True}]
        await say(two, type="ping")
        assert (await hear(two))["type"] == "pong"
        await say(two, type="no such")
        assert (await hear(two))["code"] == "unknown_type"


def checks():
    """Over TLS, the asyncio client alone. The other reads and writes by two threads, which Python's `ssl` does not
    bear: requests are lost, and the interpreter crashes, whatever the server is (python/cpython#151508)."""
    return asyncio_checks() if over_tls() else itertools.chain(asyncio_checks(), sync_checks())


def asyncio_checks():
    for name, extension in EXTENSIONS.items():
        yield f"asyncio, {name}", lambda extension=extension: asyncio.run(exchange_async(extension))
    yield "asyncio, ping and pong", lambda: asyncio.run(pings_async())
    yield f"asyncio, {crowd_size()} clients in one topic", lambda: asyncio.run(crowd_async())
    deflate = ClientPerMessageDeflateFactory()
    yield f"asyncio, {crowd_size()} clients in one topic, deflated", lambda: asyncio.run(crowd_async(deflate))
    yield "asyncio, json dialect", lambda: asyncio.run(json_dialect())


def sync_checks():
    for name, extension in EXTENSIONS.items():
        yield f"sync, {name}", lambda extension=extension: exchange_sync(extension)
    deflate = ClientPerMessageDeflateFactory()
    yield "sync, fragmented messages", lambda: fragments_sync(None)
    yield "sync, fragmented messages, deflated", lambda: fragments_sync(deflate)
    yield "sync, ping and pong", pings_sync
    yield "sync, closes of the client", closes_sync
    yield "sync, closes of the server", offences_sync
    yield "sync, refused upgrades", refusals_sync
    yield "sync, 20 clients in one topic", crowd_sync


def main():
    passed = failed = 0
    for name, check in checks():
        try:
            check()
            passed += 1
            print(f"ok    websockets: {name}")
        except Exception as error:  # whatever it is, the other checks are to be run
            failed += 1
            print(f"FAIL  websockets: {name}: {type(error).__name__}: {error}")
    print(f"websockets {version('websockets')}: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    url = sys.argv[1]
    sys.exit(main())
