"""
Shows one registration as a trace, on real servers: a tree on the screen, and a file for a trace viewer (`make trace`).

Everything exports its spans to a collector here, as OpenTelemetry's variables tell it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import httpx

from tests import commands
from tests.boundary.collector import Collector, Seen, collecting
from worker import app, logs
from worker.dev.client_script import PLURAL
from worker.dev.stack import Ready, running

SPANS: Final = 6
START_TIMEOUT_S: Final = 60
CALLER: Final = "b7ad6b7169203331"


@asynccontextmanager
async def downstream(kafka: str, folder: Path) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Run both downstream services of this project; return what waits until each has asked a customer."""
    async with AsyncExitStack() as stack:
        lines = []
        for name in ("verification", "consent"):
            arguments = ("-m", "downstream", name, "--kafka", kafka, "--data", str(folder))
            process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
            stack.push_async_callback(_ended, process)
            assert process.stdout is not None
            lines.append(process.stdout)

        async def asked(customer_id: str) -> None:
            async with asyncio.timeout(START_TIMEOUT_S):
                for each in lines:
                    while customer_id.encode() not in (line := await each.readline()):
                        assert line, "a service has ended"

        yield asked


async def _ended(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    await process.communicate()  # what it still says has to be read, or a full pipe keeps it from ending
    assert process.returncode == 0


async def show(write: Callable[[str], object]) -> int:
    """Register somebody; print the trace, and write it as a trace viewer reads it."""
    with collecting() as collector, tempfile.TemporaryDirectory() as folder:
        os.environ |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        async with running(None, port=0) as (ready, _), downstream(ready.kafka, Path(folder)) as asked:
            await asked(await _register(ready))  # all have begun, and are warm
            trace_id = os.urandom(16).hex()
            await asked(await _register(ready, traceparent=f"00-{trace_id}-{CALLER}-01"))
            await collector.until(lambda: len(collector.of(trace_id)) >= SPANS)
    _print(collector, trace_id)
    write(json.dumps(collector.document(trace_id), indent=1))
    return 0


async def _register(ready: Ready, **headers: str) -> str:
    credentials = {"Authorization": f"Bearer {ready.token}", "X-Tenant-ID": ready.tenant}
    async with httpx.AsyncClient(base_url=ready.http, headers=credentials | headers, timeout=30) as client:
        answer = await client.post(PLURAL, json=commands.body_of(commands.email_of("trace")))
    customer_id: str = answer.raise_for_status().json()["data"]["id"]
    return customer_id


def _print(collector: Collector, trace_id: str) -> None:
    spans = sorted(collector.of(trace_id), key=lambda span: span.start_ns)
    print(f"trace {trace_id}")
    for depth, span in _tree(spans, CALLER, 0):
        after_ms, took_ms = (span.start_ns - spans[0].start_ns) / 1e6, (span.end_ns - span.start_ns) / 1e6
        print(f"{'  ' * depth + span.name:<66} {span.kind:<9} {span.service:<26} {after_ms:8.1f} ms + {took_ms:6.1f} ms")


def _tree(spans: list[Seen], parent: str, depth: int) -> Iterator[tuple[int, Seen]]:
    for span in spans:
        if span.parent == parent:
            yield depth, span
            yield from _tree(spans, span.span_id, depth + 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.trace", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=Path("trace.json"), help="what to write")
    logs.configure("ERROR", "console")
    file = parser.parse_args().file
    sys.exit(app.run_until_signalled(show(file.write_text)))
