"""What is stored and what queries tell, compared with the model ledger."""

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from ledger.reads import Filters, Moment, Period, Reads
from openbell.ledger.v1 import ledger_pb2 as pb
from runtime import db, ids
from tests.ledger_acts import Actor
from tests.ledger_books import Posted, asset_of
from tests.ledger_model import Model, Told

PAGE = 7  # rows: small, so that lists have several pages

# A row for each place where a rule is broken.
BROKEN = """
WITH legs AS (
    SELECT e.*, b.account_id, b.path, b.asset, t.execution_id, t.hold_position
    FROM entries e JOIN balances b USING (balance_id) JOIN transactions t USING (log_partition, position)
), drawn AS (SELECT *, (SELECT sum(each) FROM unnest(draw_amounts) each) AS amount FROM holds)
SELECT 'a transaction sums to zero' AS rule, position::text AS place FROM legs
    GROUP BY position, asset HAVING sum(amount) <> 0
UNION ALL SELECT 'all entries sum to zero', asset FROM legs GROUP BY asset HAVING sum(amount) <> 0
UNION ALL SELECT 'a balance is the sum of its entries', path FROM balances b
    LEFT JOIN (SELECT balance_id, sum(amount) AS amount, count(*) AS count FROM entries GROUP BY 1) e USING (balance_id)
    WHERE (balance, version) IS DISTINCT FROM (coalesce(amount, 0), coalesce(count, 0))
UNION ALL SELECT 'no customer is below zero', path FROM balances
    WHERE account_id NOT LIKE 'house/%' AND path NOT LIKE '%/owed%' AND balance < 0
UNION ALL SELECT 'only facts lead to debt', position::text FROM legs
    WHERE path LIKE '%/owed%' AND amount < 0 AND execution_id IS NULL
UNION ALL SELECT 'what is held is what open holds hold', path FROM balances b
    WHERE path ~ '^(cash|position)/held' AND balance <> (
        SELECT coalesce(sum(amount), 0) FROM drawn WHERE NOT released AND (account_id, asset) = (b.account_id, b.asset))
UNION ALL SELECT 'a hold holds what was put in less what was taken out', order_id FROM drawn h WHERE amount <> (
    SELECT sum(amount) FROM legs WHERE hold_position = h.position AND path ~ '^(cash|position)/held')
UNION ALL SELECT 'a released hold holds nothing', order_id FROM drawn WHERE released AND amount <> 0
UNION ALL SELECT 'a hold is released once', hold_position::text FROM transactions WHERE kind = 5
    GROUP BY hold_position HAVING count(*) > 1
UNION ALL SELECT 'the log is dense', max(position)::text FROM transactions HAVING max(position) <> count(*)
"""
LOG = """
SELECT t.position, t.kind, t.account_id, t.effective_date, t.recorded_at_ns, coalesce(t.order_id, '') AS order_id,
    coalesce(t.execution_id, '') AS execution_id, coalesce(t.reverses, 0) AS reverses,
    b.account_id AS owner, b.path, e.amount
FROM transactions t JOIN entries e USING (log_partition, position) JOIN balances b USING (balance_id)
WHERE position > $1 ORDER BY position
"""


async def posted_after(connection: db.Pool, position: int) -> list[Posted]:
    """Of the log, what is new."""
    rows: dict[int, Any] = {}
    legs: defaultdict[int, list[tuple[str, str, int]]] = defaultdict(list)
    for row in await connection.fetch(LOG, position):
        rows[row["position"]] = row
        legs[row["position"]].append((row["owner"], row["path"], row["amount"]))
    return [
        Posted(
            pb.TransactionKind.Name(row["kind"]).removeprefix("TRANSACTION_KIND_"),
            row["account_id"],
            tuple(sorted(legs[position])),
            row["effective_date"],
            datetime.fromtimestamp(row["recorded_at_ns"] // 10**9, UTC).date(),
            row["order_id"],
            row["execution_id"],
            row["reverses"],
        )
        for position, row in rows.items()
    ]


# --- queries


async def check_accounts(reads: Reads, model: Model) -> None:
    """Balances and open holds of each, in one snapshot."""
    for account_id in model.accounts:
        account, position, holds = await reads.standing(account_id)
        assert position == len(model.log)
        assert {path: account.amount(path) for path in account.paths("")} == model.paths(account_id)
        assert [(hold.order_id, hold.position, hold.remaining) for hold in holds] == [
            (hold.order, hold.position, hold.remaining)
            for hold in model.holds.values()
            if hold.account == account_id and not hold.released
        ]


async def check_then(reads: Reads, moment: Moment, position: int, then: dict[str, dict[str, int]]) -> None:
    """Each account as it was at `moment`."""
    for account_id, paths in then.items():
        account, at = await reads.account(account_id, moment)
        assert at == position, moment
        assert {path: account.amount(path) for path in account.paths("")} == paths, moment


async def check_holds(reads: Reads, model: Model, actor: Actor, now_ns: int) -> None:
    """Every open hold by pages, and the latest ones by their keys."""
    found, token = await reads.holds(now_ns + 1, PAGE, "")
    while token:
        more, token = await reads.holds(now_ns + 1, PAGE, token)
        found += more
    open_holds = [hold for hold in model.holds.values() if not hold.released]
    assert sorted((hold.position, hold.remaining) for hold in found) == [
        (hold.position, hold.remaining) for hold in open_holds
    ]
    for order in list(model.holds)[-PAGE:]:
        by_key, _ = await reads.hold(*actor.hold_keys[order])
        assert (by_key.order_id, by_key.released) == (order, model.holds[order].released)


async def check_entries(reads: Reads, model: Model, position: int) -> None:
    """By the transaction at `position`, its execution, its order and its account, each by pages."""
    posted = model.log[position - 1]
    owner = posted.legs[0][0]
    for filters in (
        Filters(position=position),
        Filters(account_id=owner),
        Filters(order_id=posted.order),
        Filters(execution_id=posted.execution),
        Filters(account_id=owner, order_id=posted.order),
    ):
        if any(filters):
            assert sorted(await _listed(reads, filters)) == _filtered(model, filters), filters


async def _listed(reads: Reads, filters: Filters) -> list[tuple[int, str, str, int]]:
    rows, token = await reads.entries(filters, PAGE, "")
    found = list(rows)
    while token:
        rows, token = await reads.entries(filters, PAGE, token)
        found += rows
    return [(row["position"], row["account_id"], row["path"], row["amount"]) for row in found]


def _filtered(model: Model, filters: Filters) -> list[tuple[int, str, str, int]]:
    return [
        (position, *leg)
        for position, posted in enumerate(model.log, 1)
        for leg in posted.legs
        if filters.position in (0, position)
        and filters.account_id in ("", leg[0])
        and filters.order_id in ("", posted.order)
        and filters.execution_id in ("", posted.execution)
    ]


async def check_statement(reads: Reads, model: Model, period: Period) -> None:
    """Opening and closing balances by path, and what lies between them."""
    told = await reads.statement(period, PAGE, "")
    entries, token = list(told.entries), told.next_page_token
    while token:
        page = await reads.statement(period, PAGE, token)
        assert page.lines == told.lines
        entries += page.entries
        token = page.next_page_token
    opening, between, closing = _statement(model, period)
    assert {line["path"]: line["opening"] for line in told.lines if line["opening"]} == opening
    assert {line["path"]: line["closing"] for line in told.lines if line["closing"]} == closing
    assert sorted((row["position"], row["path"], row["amount"]) for row in entries) == between
    assert all(line["asset"] == asset_of(line["path"]) for line in told.lines)


def _statement(model: Model, period: Period) -> tuple[dict[str, int], list[tuple[int, str, int]], dict[str, int]]:
    opening: defaultdict[str, int] = defaultdict(int)
    closing: defaultdict[str, int] = defaultdict(int)
    between = []
    for position, posted in enumerate(model.log, 1):
        day = posted.effective if period.effective else posted.recorded
        for owner, path, amount in posted.legs:
            if owner != period.account_id:
                continue
            opening[path] += amount * (day < period.first)
            closing[path] += amount * (day <= period.last)
            if period.first <= day <= period.last:
                between.append((position, path, amount))
    return _without_zeros(opening), between, _without_zeros(closing)


def _without_zeros(amounts: dict[str, int]) -> dict[str, int]:
    return {path: amount for path, amount in amounts.items() if amount}


# --- answers


def read(answer: pb.Answer) -> Told:
    """What it says, in the model's words."""
    kind = answer.WhichOneof("response")
    assert kind is not None
    response: Any = getattr(answer, kind)
    if kind == "refused":
        return Told(response.reason)
    if kind == "open_account":
        return Told()
    position = ids.place(response.transaction_id)[1] if response.transaction_id else 0
    if kind == "journal":
        return Told(position=position, house=tuple((leg.path, leg.amount) for leg in response.balances))
    balances = response.balances
    told = Told("", position, balances.as_of_position, balances.account_id, _cash(balances))
    hold, shares = getattr(response, "hold", None), getattr(response, "position", pb.Position())
    if hold is not None:
        released = hold.state == pb.HOLD_STATE_RELEASED
        told = told._replace(hold=(hold.order_id, ids.place(hold.hold_id)[1], hold.remaining, released))
    return told._replace(shares=(shares.symbol, shares.available, shares.held, shares.owed))


def _cash(told: pb.Balances) -> tuple[tuple[str, int], ...]:
    assert told.buying_power == told.settled + sum(each.amount for each in told.unsettled)
    assert told.withdrawable == told.settled
    by_path = {"cash/held": told.held, "cash/owed": told.owed, "cash/settled": told.settled}
    by_path |= {f"cash/unsettled/{each.settle_date}": each.amount for each in told.unsettled}
    return tuple((path, amount) for path, amount in sorted(by_path.items()) if amount)
