"""supervisord: starts every process of a brokerage, and starts again what dies."""

import hashlib
import http.client
import os
import shlex
import subprocess
import sys
import tempfile
import xmlrpc.client
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from supervisor.xmlrpc import Faults, SupervisorTransport

from ops import leftover
from ops.failure import Failure
from ops.waiting import poll

PYTHON = str(Path(sys.prefix) / "bin" / "python")
SOCKET_PATH_MAX = 90  # the kernel takes 107; supervisord binds to a longer name first and renames it
START_SECONDS = 10.0
KILL_SECONDS = 5.0

# startsecs=0: what dies is started at the next tick, each time; supervisord's own back-off grows by a second per try
# and gives up in the end, and a brokerage must come back however long the fault lasted.
PROGRAM = Template("""
[program:$name]
command=$command
$user
autostart=false
autorestart=true
startsecs=0
stopsignal=$stop_signal
stopwaitsecs=10
priority=$priority
redirect_stderr=true
stdout_logfile=$data/log/$name.log
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=3
""")
SUPERVISOR = Template("""\
[unix_http_server]
file=$socket
chmod=0700

[supervisord]
directory=$data/run
pidfile=$data/run/supervisord.pid
logfile=$data/log/supervisord.log
childlogdir=$data/log
environment=PYTHONUNBUFFERED="1"
$user

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
""")
# A group is stopped at once; the next one when all of it has ended: the database outlives its users.
GROUP = Template("""
[group:$name]
programs=$programs
priority=$priority
""")

NO_ANSWER = (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError)


@dataclass(frozen=True, slots=True)
class Program:
    """One process to keep alive. Lower priorities start first and stop last."""

    name: str
    command: Sequence[str]
    user: str | None = None
    stop_signal: str = "TERM"
    priority: int = 10


@dataclass(frozen=True, slots=True)
class Process:
    """What supervisord says of a program; `pid` is None while it does not run."""

    name: str
    state: str
    pid: int | None
    uptime_seconds: int


def socket_path(data: Path) -> Path:
    """In DATA/run, or where a shorter path fits: the kernel limits it."""
    path = data / "run" / "supervisor.sock"
    if len(str(path)) <= SOCKET_PATH_MAX:
        return path
    digest = hashlib.sha256(str(data).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"openbell-{digest}" / "supervisor.sock"


def write_config(data: Path, programs: Sequence[Program]) -> None:
    user = "user=root" if os.geteuid() == 0 else ""
    text = SUPERVISOR.substitute(socket=socket_path(data), data=data, user=user)
    for program in programs:
        text += PROGRAM.substitute(
            name=program.name,
            command=shlex.join(program.command),
            user=f"user={program.user}" if program.user else "",
            stop_signal=program.stop_signal,
            priority=program.priority,
            data=data,
        )
    for priority in sorted({program.priority for program in programs}):
        names = [program.name for program in programs if program.priority == priority]
        text += GROUP.substitute(name=f"stage{priority}", programs=",".join(names), priority=priority)
    (data / "run" / "supervisord.conf").write_text(text)


def command(data: Path) -> list[str]:
    """supervisord's own command line."""
    return [PYTHON, "-m", "supervisor.supervisord", "-c", str(data / "run" / "supervisord.conf")]


def launch(data: Path) -> None:
    """Starts supervisord, which starts nothing yet."""
    _own_directory(socket_path(data).parent)
    done = subprocess.run(command(data), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"the supervisor did not start: {done.stderr or done.stdout}")
    if not poll(lambda: is_running(data), START_SECONDS):
        raise Failure(f"the supervisor does not answer; see {data}/log/supervisord.log")


def _own_directory(path: Path) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_uid != os.geteuid():
        raise Failure(f"{path} belongs to another user: remove it, or use a data directory with a shorter path")


def is_running(data: Path) -> bool:
    return supervisor_pid(data) is not None


def supervisor_pid(data: Path) -> int | None:
    try:
        return int(_supervisor(data).getPID())
    except NO_ANSWER:
        return None


def start(data: Path, name: str) -> None:
    """Starts one program, without waiting for it."""
    supervisor = _supervisor(data)
    group = next(info["group"] for info in supervisor.getAllProcessInfo() if info["name"] == name)
    try:
        supervisor.startProcess(f"{group}:{name}", False)
    except xmlrpc.client.Fault as fault:
        raise Failure(f"cannot start {name}: {fault.faultString}") from None


def start_all(data: Path) -> None:
    """Starts what does not run yet, at once, without waiting for it."""
    for answer in _supervisor(data).startAllProcesses(False):
        if answer["status"] != Faults.SUCCESS:
            raise Failure(f"cannot start {answer['name']}: {answer['description']}")


def stop(data: Path, seconds: float) -> None:
    """Stops every program, then supervisord; if that does not end in time it is killed, so that it restarts nothing."""
    pid = supervisor_pid(data)
    if pid is None:
        return
    _supervisor(data).shutdown()
    if not poll(lambda: not leftover.alive(pid), seconds):
        leftover.end([pid], KILL_SECONDS)
    if socket_path(data).parent != data / "run":
        with suppress(OSError):  # the next start makes it again
            socket_path(data).parent.rmdir()


def processes(data: Path) -> list[Process]:
    """Every program; empty if the brokerage does not run."""
    try:
        found = _supervisor(data).getAllProcessInfo()
    except NO_ANSWER:
        return []
    return [_process(info) for info in found]


def _process(info: dict[str, Any]) -> Process:
    alive = bool(info["pid"])
    return Process(
        name=str(info["name"]),
        state=str(info["statename"]),
        pid=int(info["pid"]) if alive else None,
        uptime_seconds=int(info["now"]) - int(info["start"]) if alive else 0,
    )


def _supervisor(data: Path) -> Any:
    transport = SupervisorTransport(None, None, f"unix://{socket_path(data)}")
    return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor
