"""`openbell venue ACT [WORD=VALUE ...]`: the operator of the simulated venue.

The venue is a stranger with a command of its own; this finds it for a brokerage and hands on what it says.
"""

import subprocess
from typing import Annotated

import typer

from ops.options import DEFAULT_DATA, Data
from ops.supervise import PYTHON

Words = Annotated[list[str], typer.Argument(metavar="ACT [WORD=VALUE ...]", help="`openbell venue help` lists them.")]


def venue(words: Words, data: Data = DEFAULT_DATA) -> None:
    """Act as the venue's operator: halt, resume, bust, correct, phase, book, reports and so on; answers are JSON."""
    command = [PYTHON, "-m", "exchange.operate", "--data-dir", str(data / "venue")]
    asked = ["--help"] if words == ["help"] else words
    raise typer.Exit(subprocess.run([*command, *asked], check=False).returncode)
