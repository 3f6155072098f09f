"""python -m exchange.operate --data-dir DIR ACT [WORD=VALUE ...]: the operator of a running venue acts and asks."""

import argparse
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

SOCKET_NAME: Final = "operator.sock"
WAIT_SECONDS: Final = 30.0
ACTS: Final = """
acts:
  phase name=OPEN|CLOSED|PRE_OPEN|PRE_CLOSE     halt symbol=S              resume symbol=S
  bust exec_id=E                                correct exec_id=E shares=N price=P
  cancel_order order_id=O                       restate order_id=O quantity=N price=P|0 reason=2|3|4|5
  trade order_id=O shares=N price=P             mark order_id=O what=3|7|9|B [text=T]   release order_id=O
  split symbol=S new=N old=N                    telephone comp_id=C symbol=S side=1|2 ord_type=2 time_in_force=0
                                                          order_qty=N price=P account=A
Each act is done once for a key=K, however often it is given; without one it gets a new key.
questions:
  status          book symbol=S          orders [after=N]          reports [after=N]
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="exchange.operate",
        description="Acts of a venue's operator. Prices are decimal: 150.01.",
        epilog=ACTS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="the venue's data_dir")
    parser.add_argument("act")
    parser.add_argument("words", nargs="*", metavar="WORD=VALUE")
    given = parser.parse_args()
    words = dict(word.split("=", 1) if "=" in word else (word, "") for word in given.words)
    key = words.setdefault("key", uuid4().hex)
    try:
        answer = ask(given.data_dir, {**words, "act": given.act})
    except (ConnectionResetError, BrokenPipeError, TimeoutError, Unanswered):
        sys.exit(f"the venue left without an answer; what was asked may be done: give it again with key={key}")
    except OSError as problem:
        sys.exit(f"no venue answers in {given.data_dir} ({problem}): is it running?")
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    sys.exit(1 if "refused" in answer else 0)


class Unanswered(Exception):
    """The venue took the request, and ended before its answer."""


def ask(data_dir: Path, words: dict[str, Any]) -> dict[str, Any]:
    """OSError if the venue does not run. Unanswered, or one of OSError's kinds for a connection that is lost, if it may
    have been done."""
    directory = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(WAIT_SECONDS)
            connection.connect(f"/proc/self/fd/{directory}/{SOCKET_NAME}")
            connection.sendall(json.dumps(words).encode() + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline()
    finally:
        os.close(directory)
    if not line:
        raise Unanswered
    return dict(json.loads(line))


if __name__ == "__main__":
    main()
