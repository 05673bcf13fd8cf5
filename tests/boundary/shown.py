"""What a person sees of what a command prints."""

from __future__ import annotations

from rich.console import Console, RenderableType


def shown(what: RenderableType) -> str:
    """Return it as plain text, on a very wide terminal."""
    console = Console(width=400, color_system=None)
    with console.capture() as captured:
        console.print(what)
    return captured.get()
