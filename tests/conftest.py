"""Fixtures: whole brokerages, and databases for one service."""

from collections.abc import Callable, Iterator

import pytest

from tests.brokerage import Brokerage
from tests.cluster import Cluster, Database


@pytest.fixture(scope="session")
def shared_brokerage() -> Iterator[Brokerage]:
    found = Brokerage()
    yield found
    found.remove()


@pytest.fixture
def brokerage(shared_brokerage: Brokerage) -> Iterator[Brokerage]:
    """The one that most tests share: leave it running and healthy. The audit follows each test."""
    yield shared_brokerage
    shared_brokerage.audit()


@pytest.fixture
def new_brokerage() -> Iterator[Callable[..., Brokerage]]:
    """Makes brokerages for tests that break them: `new_brokerage(OPENBELL_CRASH="engine.to_app")`."""
    made: list[Brokerage] = []

    def make(config: str = "", **environment: str) -> Brokerage:
        made.append(Brokerage(config, crashes=False, **environment))
        return made[-1]

    yield make
    try:
        for each in made:
            each.audit()
    finally:
        for each in made:
            each.remove()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of the tests' own, durable as in production."""
    found = Cluster()
    yield found
    found.stop()


@pytest.fixture
async def database(cluster: Cluster) -> Database:
    """A fresh database with every service's schema."""
    return await cluster.database()
