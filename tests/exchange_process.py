"""A venue as a process of its own, on free ports, for tests."""

import json
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from tests.fix_client import wait_until

CHECKOUT = Path(__file__).parent.parent
PARTIES = "".join(f'[[counterparties]]\ncomp_id="{name}"\n' for name in ("OPENBELL", "BETA", "RAW"))


class VenueProcess:
    """`python -m exchange` in `directory`; `settings` are lines of its TOML file, `parties` its [[counterparties]]."""

    def __init__(self, directory: Path, settings: str = "", parties: str = PARTIES) -> None:
        self.directory = directory
        self.fix_port, self.feed_port, self.rerequest_port = free_port(), free_port(), free_port()
        self._config = directory / "exchange.toml"
        directory.mkdir(parents=True, exist_ok=True)
        ports = f"fix_port={self.fix_port}\nfeed_port={self.feed_port}\nrerequest_port={self.rerequest_port}\n"
        data_dir = f"data_dir={json.dumps(str(directory / 'data'))}\n"
        self._config.write_text(ports + data_dir + settings + parties)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        with (self.directory / "out.txt").open("ab") as out:
            command = [sys.executable, "-m", "exchange", "--config", str(self._config)]
            self._process = subprocess.Popen(command, stdout=out, stderr=out, cwd=CHECKOUT)
        wait_until(self._listens, f"the venue listens: {self.output()}")

    def kill(self) -> None:
        """kill -9, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.terminate()
        return self.ended()

    def terminate(self) -> None:
        """SIGTERM."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def limit_files(self, size: int) -> None:
        """From now on no file of the running venue can become longer: a write that would fails with EFBIG."""
        assert self._process is not None
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, size))

    def ended(self) -> int:
        """The exit code of a venue that is ending."""
        assert self._process is not None
        return self._process.wait(10)

    def refuse(self) -> str:
        """Starts a venue that is to end by itself with exit code 1; its last line."""
        command = [sys.executable, "-m", "exchange", "--config", str(self._config)]
        ended = subprocess.run(command, capture_output=True, timeout=10, cwd=CHECKOUT, text=True)
        assert ended.returncode == 1, ended
        return ended.stderr.splitlines()[-1]

    @property
    def journal(self) -> Path:
        return self.directory / "data" / "journal.jsonl"

    def records(self) -> list[dict[str, Any]]:
        """The journal's complete lines, the header first."""
        lines = self.journal.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines]

    def executions(self) -> list[dict[str, Any]]:
        return [row for record in self.records() for row in record.get("out", [])]

    def output(self) -> str:
        return (self.directory / "out.txt").read_text()

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.output()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.fix_port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
