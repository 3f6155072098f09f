"""`openbell ledger verify`: whether the ledger's history is the one that was signed."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import typer
from rich.progress import Progress

from ledger.config import Config
from ledger.verify import LOG, Report, verify
from ops.failure import Failure
from ops.options import DEFAULT_DATA, Data, Json, print_json
from ops.show import command, console
from runtime import chain, db
from runtime.chain import SignedHead
from runtime.settings import Settings, load

SHOWN_MAX = 20


def verify_history(data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    """Prove that nobody changed the ledger's history, and that every balance and hold follows from it."""
    settings, started = load(data.resolve()), time.monotonic()
    out = console()
    with Progress(console=out, transient=True, disable=as_json or not out.is_terminal) as bar:
        report = asyncio.run(prove(settings, bar))
    seconds = time.monotonic() - started
    if as_json:
        print_json(as_row(report, seconds))
    else:
        _show(report, seconds)
    if report.found:
        raise typer.Exit(1)


async def prove(settings: Settings, bar: Progress) -> Report:
    """Of this moment. Failure if PostgreSQL does not answer."""
    task = bar.add_task("transactions", total=None)

    def progress(position: int, end: int) -> None:
        bar.update(task, completed=position, total=max(end, position))

    heads = signed_heads(settings)
    try:
        connection = await asyncpg.connect(settings.secret("database_admin"), timeout=5)
    except db.UNREACHABLE:
        raise Failure(f"PostgreSQL does not answer; start the brokerage with: {command('up', settings.data)}") from None
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await verify(connection, _partition(settings), _seal_key(settings), heads, progress)
    finally:
        await connection.close()


async def look(settings: Settings, connection: asyncpg.Connection, heads: Iterator[SignedHead]) -> Report:
    """What the snapshot of the connection's transaction sees; the heads must be older."""
    return await verify(connection, _partition(settings), _seal_key(settings), heads)


def signed_heads(settings: Settings) -> Iterator[SignedHead]:
    """Those of this moment."""
    try:
        public = settings.secret("chain_public.pem")
    except FileNotFoundError:
        raise Failure(
            f"nothing signs the history of {settings.data} yet; start it anew with: {command('up', settings.data)}"
        ) from None
    partition = _partition(settings)
    return chain.read_heads(chain.head_file(settings.data, LOG, partition), public, LOG, partition)


def _partition(settings: Settings) -> int:
    return settings.section("ledger", Config).partition


def _seal_key(settings: Settings) -> bytes:
    return bytes.fromhex(settings.secret("ledger_seal"))


def as_row(report: Report, seconds: float) -> dict[str, Any]:
    return {
        "link": report.tip.link,
        "position": report.tip.position,
        "hash": report.tip.hash.hex(),
        "signed_link": report.signed.link,
        "signed_position": report.signed.position,
        "rows": dict(report.rows),
        "seconds": round(seconds, 3),
        "rows_per_second": round(report.rows.total() / seconds),
        "found": report.found,
        "findings": [finding._asdict() for finding in report.findings],
    }


def _show(report: Report, seconds: float) -> None:
    out = console()
    counts = ", ".join(f"{count:,} {what}" for what, count in report.rows.items())
    out.print(f"{counts}: {seconds:.1f} s, {report.rows.total() / seconds:,.0f} rows a second")
    if report.signed.link:
        ends = f"the log ends at position {report.tip.position}, link {report.tip.link}"
        out.print(f"signed up to position {report.signed.position}, link {report.signed.link}; {ends}")
    else:
        out.print("no head is signed yet: nothing outside the database vouches for it")
    for finding in report.findings[:SHOWN_MAX]:
        name = " ".join([finding.table, *map(str, finding.key)])
        out.print(f"position {finding.position}: {name}: {finding.what}", style="red", soft_wrap=True, markup=False)
    if report.found > SHOWN_MAX:
        out.print(f"... and {report.found - SHOWN_MAX:,} more; --json has the first {len(report.findings):,}")
    if not report.found:
        out.print("every link, entry, balance and hold is right")
