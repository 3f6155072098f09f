"""The far end of the bare pair: `python -m ops.bench.fix_pair` reads a job, a line of JSON, from standard input, and
answers every order with fixed reports until standard input ends.

The least that a QuickFIX acceptor in Python can do: no book, no journal, no check beyond QuickFIX's own.
"""

import os
import sys
from typing import NoReturn

import quickfix as fix

from ops.bench.venue_traffic import COMP_IDS, SESSION_SETTINGS, VENUE, PairJob, answers, dictionary

CL_ORD_ID = 11


class Answerer(fix.Application):  # type: ignore[misc]
    """Reports are made once: only their ClOrdID(11), and what the session fills in, change.

    Nothing can be raised but FieldNotFound, which QuickFIX answers with a Reject.
    """

    def __init__(self, job: PairJob) -> None:
        super().__init__()
        self._reports = [fix.Message(text, False) for text in answers(market=job.market)]
        self._cl_ord_id = fix.ClOrdID()

    def onCreate(self, session_id: fix.SessionID) -> None:  # noqa: N802
        pass

    def onLogon(self, session_id: fix.SessionID) -> None:  # noqa: N802
        pass

    def onLogout(self, session_id: fix.SessionID) -> None:  # noqa: N802
        pass

    def toAdmin(self, message: fix.Message, session_id: fix.SessionID) -> None:  # noqa: N802
        pass

    def toApp(self, message: fix.Message, session_id: fix.SessionID) -> None:  # noqa: N802
        pass

    def fromAdmin(self, message: fix.Message, session_id: fix.SessionID) -> None:  # noqa: N802
        pass

    def fromApp(self, message: fix.Message, session_id: fix.SessionID) -> None:  # noqa: N802
        self._cl_ord_id.setValue(message.getField(CL_ORD_ID))
        for report in self._reports:
            report.setField(self._cl_ord_id)
            fix.Session.sendToTarget(report, session_id)


def run(job: PairJob) -> NoReturn:
    settings = fix.SessionSettings()
    settings.setFromString(_settings(job))
    store, application = fix.FileStoreFactory(settings), Answerer(job)
    acceptor = fix.SocketAcceptor(application, store, settings)
    acceptor.start()
    sys.stdin.read()
    os._exit(0)  # stopping or freeing an acceptor may crash; there is nothing left to close


def _settings(job: PairJob) -> str:
    sessions = "".join(f"[SESSION]\nTargetCompID={each}\n" for each in COMP_IDS)
    return f"""[DEFAULT]
ConnectionType=acceptor
SenderCompID={VENUE}
SocketAcceptPort={job.port}
SocketReuseAddress=Y
AllowedRemoteAddresses=127.0.0.1
UseDataDictionary=Y
DataDictionary={dictionary()}
FileStorePath={job.store}
{SESSION_SETTINGS}
{sessions}"""


if __name__ == "__main__":
    run(PairJob.from_json(sys.stdin.readline()))
