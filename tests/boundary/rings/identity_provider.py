"""An identity provider that runs inside a test, over HTTPS, and misbehaves in every way that it is told to."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from jwt.algorithms import ECAlgorithm

from tests.certificates import ADDRESS, Certificates
from worker.dev.tokens import JWKS, make_keys
from worker.ingress.jwks import SIZE_MAX_BYTES

Writer: TypeAlias = asyncio.StreamWriter
Play: TypeAlias = Callable[["Provider", Writer], Awaitable[None]]

PATH: Final = "/keys"
ELSEWHERE: Final = "/elsewhere"
_CHUNK: Final = b"8000\r\n" + b" " * 0x8000 + b"\r\n"


def published(folder: Path) -> dict[str, Any]:
    """Return the key of a folder as an identity provider publishes it: nothing says that it was made for development."""
    (entry,) = json.loads(make_keys(folder).read_bytes())["keys"]
    return {name: value for name, value in entry.items() if name != "development"}


def other_key(kid: str) -> dict[str, Any]:
    """Return another public key that goes by this id."""
    return {**ECAlgorithm.to_jwk(generate_private_key(SECP256R1()).public_key(), as_dict=True), "kid": kid, "alg": "ES256"}


class Provider:
    """
    The provider.

    Attributes:
        play: what it does with a request.
        keys: what it publishes when it is good.
        asked: the paths that were asked for.
    """

    def __init__(self, files: Certificates, folder: Path) -> None:
        self._files = files
        self._server: asyncio.Server | None = None
        self._port = 0
        self.folder = folder
        self.keys = [published(folder)]
        self.play: Play = good
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """Where it publishes its keys."""
        return f"https://{ADDRESS}:{self._port}{PATH}"

    async def start(self, files: Certificates | None = None) -> None:
        """Listen, at the same port as before; with a certificate of these files, if told so."""
        shown, context = files or self._files, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(shown.server_cert, shown.server_key)
        self._server = await asyncio.start_server(
            self._answer, ADDRESS, self._port, ssl=context, reuse_address=True, ssl_shutdown_timeout=1, family=socket.AF_INET
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Be gone: whoever connects is refused."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(head.split()[1].decode())
            await self.play(self, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the caller has had enough
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def provided(files: Certificates, folder: Path) -> AsyncIterator[Provider]:
    """Run a good one, with the keys of a folder, for the length of a block."""
    provider = Provider(files, folder)
    await provider.start()
    try:
        yield provider
    finally:
        await provider.stop()


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return an answer as it goes over the wire."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def saying(document: object, status: str = "200 OK", *headers: str) -> Play:
    """Answer with this document."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()

    async def play(_provider: Provider, writer: Writer) -> None:
        writer.write(answer(body, status, *headers))
        await writer.drain()

    return play


async def good(provider: Provider, writer: Writer) -> None:
    """Publish the keys."""
    await saying({"keys": provider.keys})(provider, writer)


async def dribbling(_provider: Provider, writer: Writer) -> None:
    """Send a byte now and then, so that no single read takes long."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.1)


async def silent(_provider: Provider, writer: Writer) -> None:
    """Take the request, and say nothing for as long as the caller stays."""
    while not writer.is_closing():
        await asyncio.sleep(0.05)


async def endless(_provider: Provider, writer: Writer) -> None:
    """Send more and more, without saying how much it will be."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(_CHUNK)
        await writer.drain()


async def huge(_provider: Provider, writer: Writer) -> None:
    """Say how much it will be, and send it."""
    await saying(b" " * (SIZE_MAX_BYTES + 1))(_provider, writer)


async def cut_off(provider: Provider, writer: Writer) -> None:
    """End in the middle."""
    writer.write(answer(json.dumps({"keys": provider.keys}).encode())[:-10])
    await writer.drain()


async def redirecting(provider: Provider, writer: Writer) -> None:
    """Name another place, which would have the keys."""
    if provider.asked[-1] == ELSEWHERE:
        await good(provider, writer)
    else:
        await saying({"keys": provider.keys}, "302 Found", f"Location: {ELSEWHERE}")(provider, writer)


async def private(provider: Provider, writer: Writer) -> None:
    """Publish a private key too."""
    key = {**ECAlgorithm.to_jwk(generate_private_key(SECP256R1()), as_dict=True), "kid": "private"}
    await saying({"keys": [*provider.keys, key]})(provider, writer)


async def development(provider: Provider, writer: Writer) -> None:
    """Publish what `registration dev` has made."""
    await saying(json.loads((provider.folder / JWKS).read_bytes()))(provider, writer)


async def ambiguous(provider: Provider, writer: Writer) -> None:
    """Publish two keys by one id."""
    await saying({"keys": [*provider.keys, other_key(provider.keys[0]["kid"])]})(provider, writer)


async def deep(_provider: Provider, writer: Writer) -> None:
    """Nest as deeply as the size allows."""
    await saying(b"[" * (SIZE_MAX_BYTES - 1))(_provider, writer)


FAULTS: Final[dict[str, tuple[Play, str]]] = {
    "dribbling": (dribbling, "timeout"),
    "silent": (silent, "timeout"),
    "huge": (huge, "too-large"),
    "endless": (endless, "too-large"),
    "cut off": (cut_off, "unreachable"),
    "redirecting": (redirecting, "redirect"),
    "500": (saying(b"", "500 Internal Server Error"), "status"),
    "404": (saying({"keys": []}, "404 Not Found"), "status"),
    "HTML": (saying(b"<!doctype html><title>Sign in</title>"), "malformed"),
    "no JWKS": (saying({"issuer": "https://identity.example.com"}), "malformed"),
    "deep": (deep, "malformed"),
    "packed": (saying(b"\x1f\x8b\x08\x00", "200 OK", "Content-Encoding: gzip"), "malformed"),
    "empty": (saying({"keys": []}), "no-key"),
    "private": (private, "private"),
    "development": (development, "development"),
    "ambiguous": (ambiguous, "ambiguous"),
}
"""What a provider may do wrong while it runs, and what we call it."""
