"""kill -9 at each instant that matters: every order is executed once, every execution is on the log once."""

import asyncio
import signal

import pytest

from tests.cluster import Database
from tests.ems_stage import HEALTHY, MortalCluster, Process, Stage, buy, kinds, until


async def _revive(stage: Stage, dead: Process, start: str) -> None:
    """As the supervisor does it."""
    assert await dead.ended() == -signal.SIGKILL
    if start == "engine":
        stage.start_engine(OPENBELL_CRASH="")
    else:
        await stage.start_service()


@pytest.mark.parametrize("point", ["engine.to_app", "engine.from_app", "engine.execution_committed"])
async def test_an_engine_killed_at_a_crash_point_loses_and_doubles_nothing(database: Database, point: str) -> None:
    async with Stage(database) as stage:
        stage.venue.start()
        engine = stage.start_engine(OPENBELL_CRASH=point)
        await stage.start_service()
        await stage.healthy()
        await stage.send(*(buy(f"K{number}", position=number) for number in range(1, 6)))
        await _revive(stage, engine, "engine")
        await stage.done(*(f"K{number}" for number in range(1, 6)))
        await stage.assert_sound(K1=10, K2=10, K3=10, K4=10, K5=10)
        assert await stage.dead_letters() == []


async def test_a_service_killed_after_its_commit_has_written_each_route_once(database: Database) -> None:
    async with Stage(database) as stage:
        stage.venue.start()
        stage.start_engine()
        service = await stage.start_service(OPENBELL_CRASH="ems.route_written")
        await stage.healthy()
        sending = asyncio.create_task(stage.send_until_answered(buy("S1"), buy("S2", position=2)))
        await _revive(stage, service, "service")
        assert await sending == 2
        await stage.done("S1", "S2")
        await stage.assert_sound(S1=10, S2=10)
        assert await stage.query("SELECT position FROM ems.routes ORDER BY position") == [(1,), (2,)]


async def test_an_engine_killed_again_and_again_under_load(database: Database) -> None:
    async with Stage(database) as stage:
        engine = await stage.start_all()
        names = [f"L{number:03d}" for number in range(1, 91)]
        for third in range(3):
            part = names[30 * third : 30 * third + 30]
            await stage.send(*(buy(name, position=30 * third + n) for n, name in enumerate(part, 1)))

            async def under_way(count: int = 60 * third + 20) -> bool:
                return len(await stage.rows()) >= count

            await until(under_way, "some orders are executed")
            engine.kill()
            engine = stage.start_engine()
        await stage.done(*names)
        await stage.assert_sound(**dict.fromkeys(names, 10))
        assert [row["cl_ord_id"] for row in await stage.rows() if row["kind"] == "NEW"] == names


async def test_a_venue_killed_and_restarted_loses_and_doubles_nothing(database: Database) -> None:
    async with Stage(database) as stage:
        await stage.start_all()
        names = [f"V{number:02d}" for number in range(1, 41)]
        await stage.send(*(buy(name, position=n) for n, name in enumerate(names[:20], 1)))
        stage.venue.kill()
        await stage.send(*(buy(name, position=20 + n) for n, name in enumerate(names[20:], 1)))
        stage.venue.start()
        await stage.done(*names)
        await stage.assert_sound(**dict.fromkeys(names, 10))
        arrived = [row["cl_ord_id"] for row in stage.venue.executions() if row["exec_type"] == "0"]
        assert [name for name in arrived if name in names] == names


async def test_a_killed_database_is_waited_for_and_nothing_is_lost() -> None:
    cluster = MortalCluster()
    try:
        async with Stage(await cluster.database()) as stage:
            engine = await stage.start_all()
            names = [f"P{number:02d}" for number in range(1, 21)]
            await stage.send(*(buy(name, position=n) for n, name in enumerate(names[:10], 1)))
            cluster.kill()
            sending = asyncio.create_task(
                stage.send_until_answered(*(buy(name, position=10 + n) for n, name in enumerate(names[10:], 1)))
            )
            await asyncio.to_thread(cluster.start)
            await sending
            await stage.done(*names)
            await stage.assert_sound(**dict.fromkeys(names, 10))
            assert engine.running
            assert await stage.dead_letters() == []
    finally:
        cluster.stop()


async def test_send_by_past_while_the_venue_is_down_is_not_sent_and_never_sent_later(database: Database) -> None:
    async with Stage(database) as stage:
        await stage.start_all()
        stage.venue.kill()

        async def is_cut() -> bool:
            return HEALTHY not in await stage.metrics()

        await until(is_cut, "the engine notices")
        await stage.send(buy("T1", seconds=0.3), buy("T2", position=2))
        await stage.done("T1")
        assert kinds(await stage.rows()) == ["NOT_SENT"]
        assert "send_by" in (await stage.rows())[0]["text"]
        stage.venue.start()
        await stage.done("T2")
        await stage.assert_sound(T1=0, T2=10)
        assert kinds(await stage.rows("T1")) == ["NOT_SENT"]


async def test_what_an_earlier_engine_may_have_sent_is_asked_about_before_it_is_called_not_sent(
    database: Database,
) -> None:
    async with Stage(database) as stage:
        stage.venue.start()
        engine = stage.start_engine(OPENBELL_CRASH="engine.to_app")
        await stage.start_service()
        await stage.healthy()
        await stage.send(buy("Q1", seconds=1.0))
        assert await engine.ended() == -signal.SIGKILL
        stage.venue.kill()
        stage.start_engine(OPENBELL_CRASH="")

        async def in_doubt() -> bool:
            return 'openbell_fix_doubts{venue="XSIM"} 1.0' in await stage.metrics()

        await until(in_doubt, "the route is in doubt")
        assert await stage.rows() == []
        stage.venue.start()
        await stage.done("Q1")
        assert kinds(await stage.rows("Q1"))[-1] == "NOT_SENT"
        await stage.assert_sound(Q1=0)


async def test_a_stopped_engine_has_committed_what_it_received(database: Database) -> None:
    async with Stage(database) as stage:
        engine = await stage.start_all()
        await stage.send(*(buy(f"W{number}", position=number) for number in range(1, 21)))
        engine.signal(signal.SIGTERM)
        assert await engine.ended() == 0
        stage.start_engine()
        await stage.done(*(f"W{number}" for number in range(1, 21)))
        await stage.assert_sound(**{f"W{number}": 10 for number in range(1, 21)})
