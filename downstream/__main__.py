"""`python -m downstream verification --kafka HOST:PORT --data FOLDER`: one service, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import structlog

from downstream.consent import CONSENT
from downstream.inbox import Inbox
from downstream.service import Ask, Service, UnreadableError
from downstream.verification import VERIFICATION
from tracing import OFF, Traces, TracingError, start

SERVICES: dict[str, Ask] = {"verification": VERIFICATION, "consent": CONSENT}


async def run(name: str, kafka: str, data: Path, alive: Path | None) -> None:
    """Run one service until a signal; what is under way is finished."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    traces = traces_of(name)
    try:
        with Inbox(data / f"{name}.sqlite") as inbox:
            await Service(name, SERVICES[name], inbox, kafka, alive=alive, traces=traces).run(stop)
    finally:
        traces.stop()


def traces_of(name: str) -> Traces:
    """Export spans where the environment asks for it; a service without traces is better than none."""
    try:
        return start(os.environ, f"registration-{name}")
    except TracingError as error:
        structlog.get_logger().warning("traces.unavailable", reason=str(error))
        return OFF


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m downstream", description="Acts on CustomerRegistered events.")
    parser.add_argument("service", choices=SERVICES, help="which one")
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT", help="bootstrap servers")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="where it keeps what it has acted on")
    parser.add_argument("--alive", type=Path, metavar="FILE", help="touched while it works, for a health check")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        parser.error(f"--data: {arguments.data} is no folder")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the service says in its own lines what it meets
    structlog.configure(
        processors=[structlog.processors.TimeStamper(fmt="iso"), structlog.processors.JSONRenderer(ensure_ascii=False)]
    )
    try:
        asyncio.run(run(arguments.service, arguments.kafka, arguments.data, arguments.alive))
    except UnreadableError as error:
        sys.exit(f"{arguments.service}: can't read the event at {error}: update the schemas")


if __name__ == "__main__":
    main()
