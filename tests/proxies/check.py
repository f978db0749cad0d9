"""Clients of a server behind a proxy that ends TLS.

    check.py PORT CERTIFICATE exchange             messages of all sizes, both dialects, plain requests
    check.py PORT CERTIFICATE origins              foreign pages are refused
    check.py PORT CERTIFICATE stays SECONDS        a client that says nothing is kept that long
    check.py PORT CERTIFICATE ends LEAST MOST      … is cut off within those bounds
    check.py PORT CERTIFICATE limit N              one address has N connections at most
    check.py PORT CERTIFICATE sources              the proxy comes from several addresses (to upstream.py)
    check.py PORT CERTIFICATE events               an event stream is not held back, and a made-up address not passed on
"""

import asyncio
import http.client
import json
import os
import ssl
import sys
import time
from contextlib import AsyncExitStack

# Not the client with threads: two of them in one TLS socket lose data on Python 3.11.
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

WAIT = 20  # seconds


def open_client(path, **options):
    url = f"wss://localhost:{port}{path}"
    return connect(url, ssl=trust, open_timeout=WAIT, max_size=2 << 20, proxy=None, compression=None, **options)


async def hear(client, seconds=WAIT):
    return await asyncio.wait_for(client.recv(), seconds)


def topic():
    return f"/raw/proxies-{os.getpid()}-{time.monotonic_ns()}"


def get(path, **headers):
    client = http.client.HTTPSConnection("localhost", port, context=trust, timeout=WAIT)
    client.request("GET", path, headers=headers)
    return client, client.getresponse()


async def exchange():
    path = topic()
    async with open_client(path) as one, open_client(path) as two:
        for message in ("", "text 🐎", b"\0\xff", "x" * 65_536, os.urandom(1 << 20)):
            await one.send(message)
            assert await hear(one) == message and await hear(two) == message, f"{len(message)} of {type(message)}"
        await asyncio.wait_for(await one.ping(b"there?"), WAIT)
    async with open_client("/") as one:
        assert json.loads(await hear(one))["type"] == "connected"
        await one.send('{"type":"subscribe","topics":["a"]}')
        assert json.loads(await hear(one))["type"] == "subscribed"
        await one.send('{"type":"publish","topic":"a","data":{"n":1}}')
        assert json.loads(await hear(one)) == {"n": 1}
        await one.close(4000, "a reason")
        assert one.protocol.close_rcvd.code == 4000, "the server's answer to a close comes through"
    client, response = get("/health")
    assert response.status == 200 and b'"status":"ok"' in response.read()
    client.request("GET", "/health")
    assert client.getresponse().status == 200, "a second request on the same connection"


async def origins():
    for origin, refused in (("https://example.com", False), (None, False), ("https://elsewhere.example", True)):
        try:
            async with open_client(topic(), origin=origin):
                status = 101
        except InvalidStatus as error:
            status = error.response.status_code
        assert status == (403 if refused else 101), f"{origin}: {status}"


async def silence(client, seconds):
    """How long the client lived, and whether it still does."""
    begin = time.monotonic()
    try:
        await hear(client, seconds)
    except TimeoutError:
        return time.monotonic() - begin, True
    except ConnectionClosed:
        return time.monotonic() - begin, False
    raise AssertionError("a message out of nothing")


async def stays(seconds):
    # ping_interval=None: the client is not to keep itself alive. It answers the server's pings.
    async with open_client(topic(), ping_interval=None) as client:
        lived, alive = await silence(client, int(seconds))
        assert alive, f"cut off after {lived:.1f} s"
        await client.send("still here")
        assert await hear(client) == "still here"


async def ends(least, most):
    async with open_client(topic(), ping_interval=None) as client:
        lived, alive = await silence(client, int(most))
        assert not alive and lived >= int(least), f"alive: {alive}, after {lived:.1f} s"


async def limit(most):
    async with AsyncExitStack() as clients:
        for _ in range(int(most)):
            await clients.enter_async_context(open_client(topic()))
        try:
            await clients.enter_async_context(open_client(topic()))
        except InvalidStatus as error:
            assert error.response.status_code == 429, error
        else:
            raise AssertionError(f"more than {most}")


async def sources():
    # All at once, so that no connection to the server serves two of them.
    streams = [get("/sse") for _ in range(8)]
    remote = {first_event(response)["peer"] for _, response in streams}
    assert len(remote) >= 2, f"all from {remote}"
    for client, response in streams:
        response.read()  # to its end, or the proxy still counts it when the next check begins
        client.close()


def first_event(response):
    return json.loads(response.readline().removeprefix(b"data: "))


async def events():
    client, response = get("/sse?topic=a", **{"X-Forwarded-For": "203.0.113.7"})
    begin = time.monotonic()
    first = first_event(response)
    early = time.monotonic() - begin
    headers = {name.lower(): value for name, value in first["headers"].items()}
    assert response.readline() == b"\n" and response.readline() == b"data: second\n"
    late = time.monotonic() - begin
    assert early < 1 < late, f"events after {early:.1f} and {late:.1f} s"
    assert headers["x-forwarded-for"] == "127.0.0.1", headers
    assert headers["x-forwarded-proto"] == "https", headers
    client.close()


CHECKS = {check.__name__: check for check in (exchange, origins, stays, ends, limit, sources, events)}

if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[3] not in CHECKS:
        sys.exit(__doc__)
    port = int(sys.argv[1])
    trust = ssl.create_default_context(cafile=sys.argv[2])
    try:
        asyncio.run(CHECKS[sys.argv[3]](*sys.argv[4:]))
    except Exception as error:  # whatever it is, the other checks are to be run
        sys.exit(f"{sys.argv[3]}: {type(error).__name__}: {error}")
