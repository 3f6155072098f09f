"""How the command line shows things to people."""

import os
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ops.options import DEFAULT_DATA

PIPED_CHARACTERS = 200


def console(*, quiet: bool = False) -> Console:
    """The terminal's own width; wide where there is no terminal, so that ids stay whole."""
    plain = Console(quiet=quiet, highlight=False)
    return plain if plain.is_terminal else Console(quiet=quiet, highlight=False, width=PIPED_CHARACTERS)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Columns that fold rather than cut: an id that is cut is of no use. `right` names those of numbers."""
    made = Table(box=None, pad_edge=False)
    for name in columns:
        made.add_column(name, overflow="fold", justify="right" if name in right else "left")
    return made


def command(words: str, data: Path = DEFAULT_DATA) -> str:
    """What to type next, as this command was typed: `.venv/bin/openbell status --data DIR`."""
    typed, found = sys.argv[0], shutil.which("openbell")
    name = "openbell" if found and Path(found).resolve() == Path(typed).resolve() else os.path.relpath(typed)
    return f"{name} {words}" if data == DEFAULT_DATA else f"{name} {words} --data {data}"
