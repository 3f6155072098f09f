"""A whole brokerage for a test: every process real, on ports and in a directory of its own."""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ops import audit, ports, supervise
from runtime.settings import Settings, load

OPENBELL = Path(sys.prefix) / "bin" / "openbell"
COMMAND_SECONDS = 120
UP_SECONDS = 60


def until(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """The condition's first true value. AssertionError naming `what` if it does not come in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


def free_port_base() -> int:
    """Random, so that test runs side by side seldom meet; below what the kernel gives to clients."""
    for _ in range(100):
        base = random.randrange(15_000, 32_000, 50)
        if ports.taken(base) is None:
            return base
    raise AssertionError("no free ports")


def new_directory() -> Path:
    """Where PostgreSQL's own user can reach it, and short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="openbell-", dir="/tmp"))
    path.chmod(0o755)
    return path


def openbell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command as a user does; the caller looks at the exit code."""
    return subprocess.run(
        [OPENBELL, *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        env=os.environ | environment,
        cwd="/",
        check=False,
    )


class Brokerage:
    """Started at once; `down` ends it, `remove` its directory too."""

    def __init__(self, config: str = "", *, crashes: bool = False, **environment: str) -> None:
        self.directory = new_directory()
        self.data = self.directory / "data"
        self.port_base = free_port_base()
        self._config = self.directory / "openbell.toml"
        self._config.write_text(config)
        self.crash_file = self.directory / "crash"  # with `crashes`: where a process dies next
        if crashes:
            environment["OPENBELL_CRASH"] = f"@{self.crash_file}"
        self.up(**environment)

    @property
    def settings(self) -> Settings:
        return load(self.data)

    def up(self, **environment: str) -> str:
        flags = ["--config", str(self._config), "--port-base", str(self.port_base)]
        return str(self.cli("up", *flags, json=False, **environment))

    def down(self) -> None:
        self.cli("down", json=False)

    def remove(self) -> None:
        self.down()
        shutil.rmtree(self.directory)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return openbell(*arguments, "--data", str(self.data), **environment)

    def cli(self, *arguments: str, json: bool = True, **environment: str) -> Any:
        """What the command prints: parsed with `json`, else as text. AssertionError if it fails."""
        done = self.run(*arguments, *(["--json"] if json else []), **environment)
        assert done.returncode == 0, f"openbell {' '.join(arguments)}: {done.stderr or done.stdout}"
        return parse(done.stdout) if json else done.stdout

    def processes(self) -> dict[str, dict[str, Any]]:
        """Rows of `openbell status`, by name."""
        return {row["name"]: row for row in self.cli("status")["processes"]}

    def pid(self, name: str) -> int:
        """Of the process that runs now, or is about to be started again."""
        return int(until(lambda: self._pid(name), f"{name} has a pid"))

    def _pid(self, name: str) -> int | None:
        return next(process.pid for process in supervise.processes(self.data) if process.name == name)

    def kill(self, name: str) -> int:
        """SIGKILL. The supervisor starts it again; `until_up` waits for that. Answers the pid that was."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def until_restarted(self, name: str, old_pid: int) -> None:
        """Until another process does the work of the one that was killed."""
        until(lambda: self._pid(name) not in (None, old_pid), f"{name} is started again", UP_SECONDS)
        self.until_up()

    def until_up(self) -> None:
        until(lambda: all(row["health"] == "ok" for row in self.processes().values()), "all are healthy", UP_SECONDS)

    def audit(self, acknowledged: Sequence[dict[str, Any]] = ()) -> None:
        """What `openbell audit` does finds no violation; its rows are in the AssertionError otherwise."""
        _, violations = asyncio.run(audit.until_clean(self.settings, list(acknowledged), audit.SETTLE_SECONDS))
        assert not violations, violations[:10]


def parse(text: str) -> Any:
    return json.loads(text)
