"""How the command line shows things to people."""

import os
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ops.options import DEFAULT_DATA

LINE_CHARACTERS = 240  # a terminal that is narrower wraps the line; a table that is squeezed would cut its ids


def console(*, quiet: bool = False) -> Console:
    return Console(quiet=quiet, highlight=False, width=LINE_CHARACTERS)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Columns as wide as what is in them. `right` names those of numbers."""
    made = Table(box=None, pad_edge=False)
    for name in columns:
        made.add_column(name, no_wrap=True, justify="right" if name in right else "left")
    return made


def command(words: str, data: Path = DEFAULT_DATA) -> str:
    """What to type next, as this command was typed: `.venv/bin/openbell status --data DIR`."""
    typed, found = sys.argv[0], shutil.which("openbell")
    name = "openbell" if found and Path(found).resolve() == Path(typed).resolve() else os.path.relpath(typed)
    return f"{name} {words}" if data == DEFAULT_DATA else f"{name} {words} --data {data}"
