"""The command line: `registration …`, the same as `python -m worker …`."""

from __future__ import annotations

import sys

import typer

from worker import logs
from worker.cli import catalogue, dead_letters, events, outbox, partitions, registrations, services
from worker.cli.terminal import say
from worker.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    ConfigurationError,
    DeniedError,
    UnavailableError,
)

cli = typer.Typer(
    name="registration",
    help="Onboards private customers: HTTP to Kafka to PostgreSQL to events.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.add_typer(services.cli)
cli.add_typer(registrations.cli)
cli.add_typer(catalogue.cli, name="catalogue")
cli.add_typer(partitions.cli, name="partitions")
cli.add_typer(dead_letters.cli, name="dead-letters")
cli.add_typer(events.cli, name="events")
cli.add_typer(outbox.cli, name="outbox")


def main() -> None:
    """Run a command; errors that people can act on are one line on stderr."""
    try:
        code = cli(standalone_mode=False)
    except typer.Exit as end:
        code = end.exit_code
    except typer.Abort:
        code = EXIT_INTERRUPTED
    except ConfigurationError as error:
        code = say(str(error), EXIT_USAGE)
    except UnavailableError as error:
        code = say(f"{error.service} is unavailable: {error.reason}", EXIT_UNAVAILABLE)
    except DeniedError as error:
        code = say(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last one to hear of it
        usage = getattr(error, "format_message", None)
        if usage is not None:
            code = say(usage(), EXIT_USAGE)
        else:  # its text may hold a row or a body
            logs.logger().error("process.crashed", exc_info=error)
            code = EXIT_FAILED
    sys.exit(code or EXIT_DONE)


if __name__ == "__main__":
    main()
