"""The load generator for venues: `python -m ops.bench.fix_client` reads a job from standard input and prints its
outcome, both JSON.

A closed loop a session: each order that is answered makes place for the next. Everything happens in QuickFIX's
callbacks, on its one thread, and as little as can be: the processors are shared with what is measured.
"""

import itertools
import json
import os
import sys
import threading
import time
from dataclasses import asdict
from typing import NoReturn

import quickfix as fix

from ops.bench.venue_traffic import (
    COMP_IDS,
    HEARTBEAT_SECONDS,
    SESSION_SETTINGS,
    SOH,
    VENUE,
    ClientJob,
    Outcome,
    orders,
)

CL_ORD_ID, EXEC_TYPE = 11, 150
NEW, FILL = "0", "2"
WARM_SECONDS = 0.3  # until all sessions are at work: not measured
SPARE_SECONDS = 60.0
LOGOUT_SECONDS_MAX = 10.0


class Loop(fix.Application):  # type: ignore[misc]
    """The callbacks. After `ended` is set, `problem` tells what went wrong, "" if nothing did.

    None may raise: the engine's thread would be dead and the process waiting.
    """

    def __init__(self, job: ClientJob) -> None:
        super().__init__()
        self.ended, self.left = threading.Event(), threading.Event()
        self.problem = ""
        self._job = job
        self._orders = itertools.cycle([fix.Message(text, False) for text in orders(market=job.load.market)])
        self._cl_ord_id = fix.ClOrdID()
        self._numbers = itertools.count(time.time_ns())  # later runs get higher ones
        self._last = FILL if job.load.market else NEW
        self._expected = {NEW, self._last}
        self._under_way: dict[str, tuple[float, fix.Session]] = {}
        self._latencies: list[float] = []
        self._logged_on = self._done = 0
        self._from = self._until = float("inf")
        self._cpu_seconds = time.process_time()

    def onCreate(self, session_id: fix.SessionID) -> None:  # noqa: N802
        pass

    def onLogon(self, session_id: fix.SessionID) -> None:  # noqa: N802
        try:
            self._begin(fix.Session.lookupSession(session_id))
        except Exception as problem:  # noqa: BLE001 told at the end instead of killing the engine's thread
            self._fail(repr(problem))

    def onLogout(self, session_id: fix.SessionID) -> None:  # noqa: N802
        self._logged_on -= 1
        if not self.ended.is_set():
            self._fail(f"{session_id.getSenderCompID().getValue()} was logged out")
        if not self._logged_on:
            self.left.set()

    def toAdmin(self, message: fix.Message, session_id: fix.SessionID) -> None:  # noqa: N802
        pass

    def toApp(self, message: fix.Message, session_id: fix.SessionID) -> None:  # noqa: N802
        pass

    def fromAdmin(self, message: fix.Message, session_id: fix.SessionID) -> None:  # noqa: N802
        pass

    def fromApp(self, message: fix.Message, session_id: fix.SessionID) -> None:  # noqa: N802
        try:
            self._answer(message)
        except Exception as problem:  # noqa: BLE001 as in onLogon
            self._fail(f"{problem!r} at {message.toString().replace(SOH, '|')}")

    def outcome(self) -> Outcome:
        ordered = sorted(self._latencies)
        places = (len(ordered) * 50 // 100, len(ordered) * 99 // 100, -1)
        p50, p99, longest = (round(1e6 * ordered[place], 1) for place in places)
        per_s = round(len(ordered) / self._job.seconds, 1)
        return Outcome(self._done, per_s, p50, p99, longest, time.process_time() - self._cpu_seconds)

    def _begin(self, session: fix.Session) -> None:
        self._logged_on += 1
        if self._logged_on == self._job.load.sessions:
            self._from = time.perf_counter() + WARM_SECONDS
            self._until = self._from + self._job.seconds
        for _ in range(self._job.load.window):
            self._send(session)

    def _send(self, session: fix.Session) -> None:
        cl_ord_id, order = str(next(self._numbers)), next(self._orders)
        self._cl_ord_id.setValue(cl_ord_id)
        order.setField(self._cl_ord_id)
        self._under_way[cl_ord_id] = (time.perf_counter(), session)
        if not session.send(order):
            raise OSError("QuickFIX could not send")

    def _answer(self, message: fix.Message) -> None:
        exec_type = message.getField(EXEC_TYPE)
        if exec_type != self._last:
            if exec_type not in self._expected:
                raise ValueError(f"ExecType(150) {exec_type}")
            return
        sent, session = self._under_way.pop(message.getField(CL_ORD_ID))
        now = time.perf_counter()
        self._done += 1
        # Of orders that all take longer than the time there is, the first one is measured.
        if self._from <= now and (now < self._until or not self._latencies):
            self._latencies.append(now - sent)
        if now < self._until:
            self._send(session)
        elif not self._under_way:
            self.ended.set()

    def _fail(self, problem: str) -> None:
        self.problem = self.problem or problem
        self.ended.set()


def run(job: ClientJob) -> NoReturn:
    settings = fix.SessionSettings()
    settings.setFromString(_settings(job))
    store = fix.FileStoreFactory(settings)
    loop = Loop(job)
    initiator = fix.SocketInitiator(loop, store, settings)
    initiator.start()
    if not loop.ended.wait(job.seconds + SPARE_SECONDS):
        _end("no answers")
    if loop.problem:
        _end(loop.problem)
    json.dump(asdict(loop.outcome()), sys.stdout)
    # By the engine's own thread, so after the last message is counted; the next run goes on from there.
    for session_id in initiator.getSessions():
        fix.Session.lookupSession(session_id).logout()
    _end("" if loop.left.wait(LOGOUT_SECONDS_MAX) else "no answer to the logout")


def _end(problem: str) -> NoReturn:
    """Not by way of the interpreter's end: an initiator that is stopped or freed may crash."""
    sys.stdout.flush()
    sys.stderr.write(problem)
    sys.stderr.flush()
    os._exit(1 if problem else 0)


def _settings(job: ClientJob) -> str:
    sessions = "".join(f"[SESSION]\nSenderCompID={each}\n" for each in COMP_IDS[: job.load.sessions])
    return f"""[DEFAULT]
ConnectionType=initiator
TargetCompID={VENUE}
SocketConnectHost=127.0.0.1
SocketConnectPort={job.port}
HeartBtInt={HEARTBEAT_SECONDS}
ReconnectInterval=1
UseDataDictionary=N
PersistMessages=N
FileStorePath={job.store}
{SESSION_SETTINGS}
{sessions}"""


if __name__ == "__main__":
    run(ClientJob.from_json(sys.stdin.read()))
