"""The engine's process, with QuickFIX and a real database, against a venue that misbehaves on purpose.

The routes are written by the service's own code, in the test's process.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ems import accept_commands
from ems.accept_commands import Store
from ems.config import Config
from ems.database import Writer
from openbell.ems.v1 import ems_pb2
from runtime import db
from tests.cluster import Database
from tests.ems_scripted_venue import ScriptedVenue
from tests.ems_stage import HEALTHY, Stage, buy, kinds, until
from tests.fix_client import field


class Play:
    """A stage with a scripted venue; waiting for it goes on beside the event loop."""

    def __init__(self, stage: Stage, venue: ScriptedVenue, store: Store) -> None:
        self.stage, self.venue, self._store = stage, venue, store

    async def send(self, *commands: Any) -> None:
        batch = ems_pb2.SendRequest(commands=commands)
        await self._store.store([accept_commands.decode(batch, Config(), time.time_ns())])

    async def wait_for(self, msg_type: str, count: int = 1) -> str:
        return await asyncio.to_thread(self.venue.wait_for, msg_type, count)

    async def rows(self, count: int) -> list[str]:
        """Kinds of the log's rows, once there are so many."""

        async def enough() -> bool:
            return len(await self.stage.rows()) >= count

        await until(enough, f"{count} rows: {self.stage.log('ems.engine')}")
        return kinds(await self.stage.rows())

    async def letters(self, count: int) -> list[str]:
        """Reasons of the dead letters, once there are so many."""

        async def enough() -> bool:
            return len(await self.stage.dead_letters()) >= count

        await until(enough, f"{count} dead letters: {self.stage.log('ems.engine')}")
        return [row["reason"] for row in await self.stage.dead_letters()]

    async def unhealthy(self) -> None:
        async def is_unhealthy() -> bool:
            return HEALTHY not in await self.stage.metrics()

        await until(is_unhealthy, "the session is not healthy")

    async def order_goes_through(self, cl_ord_id: str) -> None:
        """Whatever happened before: the session lives."""
        count = len(self.venue.of_type("D"))
        await self.send(buy(cl_ord_id, position=99))
        assert field(await self.wait_for("D", count + 1), 11) == cl_ord_id
        self.venue.fill(cl_ord_id, f"X{cl_ord_id}")
        await self.stage.done(cl_ord_id)


@pytest.fixture
async def play(database: Database) -> AsyncIterator[Play]:
    venue = ScriptedVenue()
    try:
        async with Stage(database, venue.port, status_after_seconds=1.0, heartbeat_seconds=1) as stage:
            stage.start_engine()
            pool = await db.pool(database.urls["ems"], "ems", size=1)
            play = Play(stage, venue, Store(await Writer.take(pool, Store.logs(Config()))))
            await stage.healthy()
            yield play
            await pool.close()
    finally:
        venue.close()


async def test_nothing_is_handed_over_while_logged_out(play: Play) -> None:
    play.venue.answers_logon = False
    play.venue.cut()
    await play.unhealthy()
    await play.send(buy("N1"), buy("N2", seconds=0.2, position=2))
    assert await play.rows(1) == ["NOT_SENT"]
    play.venue.answers_logon = True
    play.venue.cut()
    order = await play.wait_for("D")
    assert (field(order, 11), field(order, 43), field(order, 97)) == ("N1", "", "")
    play.venue.fill("N1", "X1")
    await play.stage.done("N1", "N2")
    assert [field(message, 11) for message in play.venue.of_type("D")] == ["N1"]


async def test_an_order_unknown_to_the_venue_is_sent_again_before_new_ones(play: Play) -> None:
    await play.send(buy("U1"))
    await play.wait_for("D")
    question = await play.wait_for("H")
    assert (field(question, 11), field(question, 55), field(question, 54)) == ("U1", "AAPL", "1")
    await play.send(buy("U2", position=2))
    play.venue.unknown("U1")
    again = await play.wait_for("D", 2)
    assert (field(again, 11), field(again, 97)) == ("U1", "Y")
    third = await play.wait_for("D", 3)
    assert (field(third, 11), field(third, 97)) == ("U2", "")
    play.venue.fill("U1", "X1")
    play.venue.fill("U2", "X2")
    await play.stage.done("U1", "U2")
    assert await play.rows(3) == ["STATUS", "FILL", "FILL"]


async def test_a_known_order_lives_and_its_fill_is_not_inferred_from_the_status(play: Play) -> None:
    await play.send(buy("K1"))
    await play.wait_for("H")
    play.venue.report("K1", "20=3|150=2|39=2|14=10|32=0|31=0")
    assert await play.rows(1) == ["STATUS"]
    await play.order_goes_through("K2")
    assert await play.stage.query("SELECT done FROM ems.routes WHERE cl_ord_id = 'K1'") == [(False,)]
    play.venue.fill("K1", "X1")
    await play.stage.done("K1")


async def test_an_old_answer_does_not_make_an_order_absent(play: Play) -> None:
    """It was given before the order was sent again; believed, it would call an executed order never sent."""
    await play.send(buy("O1", seconds=3))
    await play.wait_for("H", 2)  # asked twice
    play.venue.unknown("O1")
    assert field(await play.wait_for("D", 2), 97) == "Y"
    play.venue.unknown("O1")  # the second question's answer
    play.venue.unknown("O1", header="43=Y|122=20261121-00:00:00")  # what an earlier logon was told
    assert await play.rows(3) == ["STATUS"] * 3
    await play.wait_for("H", 3)  # by now send_by has passed
    play.venue.unknown("O1", header="43=Y|122=20261121-00:00:00")
    play.venue.send("35=ZZ")
    await play.letters(1)
    assert kinds(await play.stage.rows()) == ["STATUS"] * 4
    assert len(play.venue.of_type("D")) == 2
    play.venue.fill("O1", "X1")
    await play.stage.done("O1")
    assert kinds(await play.stage.rows())[-1] == "FILL"


async def test_past_send_by_an_absent_order_is_not_sent(play: Play) -> None:
    await play.send(buy("P1", seconds=0.8))
    await play.wait_for("H")
    play.venue.unknown("P1")
    assert await play.rows(2) == ["STATUS", "NOT_SENT"]
    await play.stage.done("P1")
    await play.order_goes_through("P2")
    assert [field(message, 11) for message in play.venue.of_type("D")] == ["P1", "P2"]


async def test_a_resend_of_an_order_past_send_by_does_not_go(play: Play) -> None:
    await play.send(buy("R1", seconds=0.5), buy("R2", position=2))
    first = await play.wait_for("D", 2)
    await asyncio.sleep(0.6)
    play.venue.send(f"35=2|7={int(field(first, 34)) - 1}|16=0")
    resent = await play.wait_for("D", 3)
    assert (field(resent, 11), field(resent, 43)) == ("R2", "Y")
    gap = await play.wait_for("4")
    assert field(gap, 123) == "Y"
    for name in ("R1", "R2"):
        play.venue.fill(name, f"X{name}")
    await play.stage.done("R1", "R2")
    assert [field(message, 11) for message in play.venue.of_type("D")] == ["R1", "R2", "R2"]


async def test_a_question_of_an_earlier_logon_is_not_asked_again_by_a_resend(play: Play) -> None:
    await play.send(buy("Q1"))
    await play.wait_for("D")
    question = await play.wait_for("H")
    play.venue.cut()
    await play.wait_for("A", 2)
    play.venue.send(f"35=2|7={field(question, 34)}|16=0")
    await play.wait_for("4")
    sent = [field(message, 34) for message in play.venue.of_type("H")]
    assert sent.count(field(question, 34)) == 1
    play.venue.fill("Q1", "X1")
    await play.stage.done("Q1")


async def test_a_session_reject_of_an_order_ends_it(play: Play) -> None:
    await play.send(buy("J1"), buy("J2", position=2))
    first, second = await play.wait_for("D"), await play.wait_for("D", 2)
    play.venue.send(f"35=3|45={field(first, 34)}|372=D|58=no such thing")
    play.venue.send(f"35=j|45={field(second, 34)}|372=D|380=3|58=not served")
    await play.stage.done("J1", "J2")
    rows = await play.stage.rows()
    assert [(row["kind"], row["cl_ord_id"], row["text"]) for row in rows] == [
        ("REJECTED", "J1", "no such thing"),
        ("REJECTED", "J2", "not served"),
    ]
    await play.order_goes_through("J3")


async def test_a_rejected_copy_is_asked_about_and_not_sent_for_ever(play: Play) -> None:
    await play.send(buy("Y1"))
    await play.wait_for("H")
    play.venue.unknown("Y1")
    copy = await play.wait_for("D", 2)
    play.venue.send(f"35=3|45={field(copy, 34)}|372=D|58=bad")
    assert "copy" in (await play.letters(1))[0]
    await play.wait_for("H", 2)
    play.venue.unknown("Y1")
    await play.stage.done("Y1")
    row = (await play.stage.rows())[-1]
    assert (row["kind"], row["text"]) == ("NOT_SENT", "the venue refused the message: bad")
    assert len(play.venue.of_type("D")) == 2


DEAD = [
    ("35=8|20=0|150=2|39=2|11=NOBODY|17=E1|32=10|31=1|151=0|14=10|37=1|55=AAPL|54=1", "ClOrdID 'NOBODY'"),
    ("35=8|20=0|150=2|39=2|11=G1|17=E2|32=10.5|31=1|55=AAPL|54=1", "whole shares"),
    ("35=8|20=0|150=2|39=2|11=G1|17=E3|32=10|31=1.00001|55=AAPL|54=1", "finer"),
    ("35=8|20=0|150=2|39=2|11=G1|17=E4|32=10|31=abc|55=AAPL|54=1", "no price"),
    ("35=8|20=0|150=2|39=2|11=G1|17=E5|32=10|31=1|55=GOOGL|54=1", "symbol is AAPL"),
    ("35=8|20=0|150=2|39=2|11=G1|17=E6|32=10|31=1|55=AAPL|54=2", "side is BUY"),
    ("35=8|20=7|150=2|39=2|11=G1|17=E7", "ExecTransType"),
    ("35=8|11=G1", "ExecTransType"),
    ("35=9|11=G1|41=G0|39=8|434=1|37=1", "no place"),
    ("35=ZZ|11=G1", "no place"),
    ("35=8|20=0|150=2|39=2|11=G1|17=|32=10|31=|55=AAPL|54=1", "we refused the venue's message"),
    ("35=8|20=0|150=2|39=2|11=G1|17=E\x008|32=1e400|31=1", "whole shares"),
    ("35=3|45=9999|58=which one", "no order under way"),
]


async def test_garbage_is_a_dead_letter_each_and_the_session_stays_up(play: Play) -> None:
    await play.send(buy("G1"))
    await play.wait_for("D")
    for text, _ in DEAD:
        play.venue.send(text)
    play.venue.send_bytes(b"8=FIX.4.2\x019=5\x0135=8\x01garbled\x0110=000\x01" + bytes(range(128, 256)))
    reasons = await play.letters(len(DEAD))
    for (text, expected), reason in zip(DEAD, reasons, strict=True):
        assert expected in reason, text
    letters = await play.stage.dead_letters()
    assert b"E\x008" in letters[11]["raw"]
    play.venue.fill("G1", "X1")
    await play.stage.done("G1")
    assert len(play.venue.of_type("A")) == 1
    await play.order_goes_through("G2")


async def test_an_execution_that_comes_twice_is_on_the_log_once(play: Play) -> None:
    await play.send(buy("T1"))
    await play.wait_for("D")
    for header in ("", "97=Y", "97=Y"):
        play.venue.send(
            "35=8|20=0|150=1|39=1|11=T1|17=E1|32=4|31=150|151=6|14=4|37=1|55=AAPL|54=1|75=20261120", header=header
        )
    play.venue.report("T1", "20=0|150=1|39=1|32=3|31=150|151=3|14=7", "E2")
    assert await play.rows(2) == ["FILL", "FILL"]
    play.venue.report("T1", "20=0|150=1|39=1|32=9|31=150|151=3|14=7", "E2")
    assert "another execution" in (await play.letters(1))[0]
    play.venue.report("T1", "20=1|150=1|39=1|19=E2|32=3|31=150", "E3")
    play.venue.fill("T1", "E4")
    await play.stage.done("T1")
    assert kinds(await play.stage.rows()) == ["FILL", "FILL", "BUST", "FILL"]


async def test_what_was_received_and_not_committed_comes_again_after_a_restart(play: Play) -> None:
    await play.send(buy("M1"))
    await play.wait_for("D")
    number = play.venue.report("M1", "20=0|150=0|39=0", "E1")
    assert await play.rows(1) == ["NEW"]
    play.stage.processes[0].kill()
    lost = play.venue.next_out
    play.venue.next_out += 1  # a fill that the dead engine did not get
    play.venue.answers_resend = False
    play.stage.start_engine()
    request = await play.wait_for("2")
    assert int(field(request, 7)) == number + 1
    # A Reject and a Logout ahead of their turn must not make QuickFIX skip the fill.
    play.venue.send("35=3|45=9999|58=early")
    await play.letters(1)
    play.venue.send("35=5|58=early")
    await play.wait_for("2", 2)
    assert int(field(play.venue.of_type("2")[1], 7)) == number + 1
    play.venue.report("M1", "20=0|150=2|39=2|32=10|31=150|14=10", "E2", lost, "43=Y|122=20261120-00:00:00")
    await play.stage.done("M1")
    assert kinds(await play.stage.rows()) == ["NEW", "FILL"]


async def test_a_silent_venue_gets_no_new_order(play: Play) -> None:
    play.venue.mute = True
    await play.unhealthy()
    await play.send(buy("Z1", seconds=0.2))
    assert await play.rows(1) == ["NOT_SENT"]
    assert play.venue.of_type("D") == []
