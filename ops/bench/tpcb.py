"""pgbench's TPC-B on the same server, in a database of its own: what one PostgreSQL does on this machine."""

import math
import os
import re
import subprocess
from dataclasses import dataclass

from ops import postgres
from ops.failure import Failure

DATABASE = "tpcb"
SCALE, CLIENTS, THREADS = 10, 8, 2
SPARE_SECONDS = 60.0
RATE = re.compile(r"^tps = ([0-9.]+) \(without initial connection time\)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Tpcb:
    """The server's port and superuser. `fill` once, then `measure` as often as wanted."""

    port: int
    password: str

    def fill(self) -> None:
        self._run(["--initialize", "--quiet", f"--scale={SCALE}"], SPARE_SECONDS)

    def measure(self, seconds: float) -> float:
        """Transactions per second, in pgbench's default mode, over whole seconds: it knows no others."""
        flags = [f"--client={CLIENTS}", f"--jobs={THREADS}", f"--time={math.ceil(seconds)}"]
        found = RATE.search(self._run(flags, seconds + SPARE_SECONDS))
        if found is None:
            raise Failure("pgbench did not tell a rate")
        return float(found[1])

    def _run(self, flags: list[str], seconds_max: float) -> str:
        program = postgres.binary("pgbench")
        if not program.exists():
            raise Failure(f"there is no {program}: this PostgreSQL came without pgbench")
        command = [str(program), *flags, "--host=127.0.0.1", f"--port={self.port}", "--username=postgres", DATABASE]
        environment = os.environ | {"PGPASSWORD": self.password}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=seconds_max, check=False
            )
        except subprocess.TimeoutExpired:
            raise Failure(f"pgbench has not ended after {seconds_max:.0f} s") from None
        if done.returncode != 0:
            raise Failure(f"pgbench failed: {done.stderr[-300:]}")
        return done.stdout
