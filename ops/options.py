"""Options that every command shares."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[Path, typer.Option("--data", help="The brokerage's data directory.")]
Json = Annotated[bool, typer.Option("--json", help="The same as JSON.")]

DEFAULT_DATA = Path(".openbell")


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))
