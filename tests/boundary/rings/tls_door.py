"""
A door to PostgreSQL that only TLS passes, as `ssl = on` and nothing but `hostssl` make it.

The embedded server is built without TLS; behind this door it is as real as anywhere.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from worker.tls import Pem, server_context

SSL_REQUEST: Final = struct.pack("!ii", 8, 80877103)
"""Source: PostgreSQL, "Message Formats", SSLRequest."""
REFUSED: Final = b"SFATAL\0VFATAL\0C28000\0Mno pg_hba.conf entry for host, no encryption\0\0"
_CHUNK_BYTES: Final = 65536


@asynccontextmanager
async def tls_door(port: int, cert: Pem, key: Pem) -> AsyncIterator[int]:
    """
    Let TLS through to a port of this machine for the length of a block.

    Returns:
        The port of the door.
    """
    context = server_context(cert, key)
    context.set_alpn_protocols(["postgresql"])

    async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await reader.readexactly(len(SSL_REQUEST)) == SSL_REQUEST:
                writer.write(b"S")
                await writer.start_tls(context)
                await _pass(reader, writer, port)
            else:
                writer.write(b"E" + struct.pack("!i", len(REFUSED) + 4) + REFUSED)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # who does not like our certificate goes
        finally:
            writer.close()

    server = await asyncio.start_server(enter, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Carry bytes both ways until one side ends."""
    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
    ways = [asyncio.create_task(_carry(reader, inner_writer)), asyncio.create_task(_carry(inner_reader, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        inner_writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
