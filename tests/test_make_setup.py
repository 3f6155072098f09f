"""deploy/setup on machines that lack something: one line that says what to install."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ("date", "dirname", "grep", "mktemp", "rm", "sh", "sleep", "tail")
COMPILER = "#!/bin/sh\n"
OLD_PYTHON = "#!/bin/sh\nexit 1\n"
# Passes for a fit one, and then cannot make an environment.
BROKEN_PYTHON = """#!/bin/sh
case $1 in
    -) exit 0 ;;
    --version) echo Python 3.11.99 ;;
    *) echo "no space left on device" >&2; exit 1 ;;
esac
"""


class Machine:
    """A checkout and a PATH with only what a test puts there."""

    def __init__(self, directory: Path) -> None:
        self._bin = directory / "bin"
        self._checkout = directory / "checkout"
        self._bin.mkdir()
        shutil.copytree(ROOT / "deploy", self._checkout / "deploy")
        for name in TOOLS:
            found = shutil.which(name)
            assert found is not None
            self.link(name, found)

    def link(self, name: str, target: str) -> None:
        (self._bin / name).symlink_to(target)

    def program(self, name: str, text: str) -> None:
        (self._bin / name).write_text(text)
        (self._bin / name).chmod(0o755)

    def set_up(self) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PATH": str(self._bin)}
        command = [self._checkout / "deploy" / "setup"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def refusal(self) -> str:
        """What is said when nothing was begun."""
        done = self.set_up()
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("openbell: ")
        assert done.stderr.count("\n") == 1
        assert not (self._checkout / ".venv").exists()
        return done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def this_python() -> str:
    """The interpreter itself: a link to the one in .venv would find that environment."""
    return os.path.realpath(sys.executable)


def test_a_missing_compiler_is_one_line_with_the_packages_to_install(machine: Machine) -> None:
    machine.link("python3", this_python())
    machine.program("make", COMPILER)
    line = machine.refusal()
    assert "C++ compiler" in line
    assert "apt install g++" in line
    assert "dnf install gcc-c++" in line


def test_a_missing_make_is_one_line(machine: Machine) -> None:
    machine.link("python3", this_python())
    machine.program("c++", COMPILER)
    assert "apt install make" in machine.refusal()


def test_a_missing_python_is_one_line(machine: Machine) -> None:
    line = machine.refusal()
    assert "Python 3.11" in line
    assert "python3-venv python3-dev" in line
    assert "python3-devel" in line


def test_pythons_that_are_too_old_or_incomplete_are_passed_over(machine: Machine) -> None:
    machine.program("python3.11", OLD_PYTHON)
    machine.program("python3.12", OLD_PYTHON)
    assert "Python 3.11" in machine.refusal()
    machine.link("python3.13", this_python())
    assert "C++ compiler" in machine.refusal()


def test_a_failure_shows_the_end_of_the_log(machine: Machine) -> None:
    machine.program("python3.11", BROKEN_PYTHON)
    machine.program("c++", COMPILER)
    machine.program("make", COMPILER)
    done = machine.set_up()
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "no space left on device",
        "openbell: failed: making .venv with Python 3.11.99",
    ]
