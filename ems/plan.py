"""What one transaction of an engine writes for a batch, and what the engine learns from it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ems import fix, rows
from ems.fix import Report
from ems.messages import Content, Item, Key, Message, NotSent, SeqKey, contradiction
from ems.routes import OpenRoutes, Route
from ems.rows import DeadLetter, Execution, Origin, Place


@dataclass(frozen=True, slots=True)
class Mark:
    """Up to where a session is committed."""

    session: str
    venue: str
    epoch: int
    committed_seq: int


@dataclass(frozen=True, slots=True)
class Known:
    """What there is already of a batch: its routes, and of its messages and decisions those that are rows."""

    routes: Mapping[str, Route]
    keys: Mapping[Key, Content | None]
    not_sent: frozenset[str]
    buried: frozenset[SeqKey] = frozenset()  # dead letters


@dataclass(slots=True)
class Plan:
    """The fields up to `done` are written in one transaction; the others count once it is committed."""

    mark: Mark
    executions: list[Execution] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)  # ClOrdID -> position of the route
    learnt: list[Message] = field(default_factory=list)  # in order of arrival, duplicates included
    duplicates: int = 0


def make(
    batch: Sequence[Item], messages: Sequence[Message], known: Known, open_routes: OpenRoutes, mark: Mark, first: Place
) -> Plan:
    """Rows from position `first.position` on, in order of arrival, each message and decision at most once.

    `messages` are those of the batch, read."""
    planning = _Planning(Plan(_moved(mark, messages)), known, open_routes, first)
    arrived = iter(messages)
    for item in batch:
        if isinstance(item, NotSent):
            planning.not_sent(item)
        else:
            planning.message(next(arrived))
    return planning.plan


def learn(plan: Plan, open_routes: OpenRoutes, logon: int) -> None:
    """Moves the routes by what is committed now. `logon` is the present one."""
    for message in plan.learnt:
        report = message.report
        assert report is not None
        if message.problem:
            open_routes.copy_refused(report.cl_ord_id, report.text)
        elif report.is_unknown_order:
            open_routes.unknown(report.cl_ord_id, answers=message.answers(logon))
        else:
            open_routes.known(report.cl_ord_id, answers=message.answers(logon))
    for row in plan.executions:
        open_routes.first_answer_recorded(row.cl_ord_id)
    for cl_ord_id in plan.done:
        open_routes.done(cl_ord_id)


def _moved(mark: Mark, messages: Sequence[Message]) -> Mark:
    epoch, committed_seq = mark.epoch, mark.committed_seq
    for message in messages:
        if message.epoch != epoch:
            epoch, committed_seq = message.epoch, 0
        # What came out of order says nothing about the messages before it: those have to be asked for again.
        if message.received.in_order and message.seq_num is not None:
            committed_seq = max(committed_seq, message.seq_num)
    return replace(mark, epoch=epoch, committed_seq=committed_seq)


class _Planning:
    """One pass over a batch."""

    def __init__(self, plan: Plan, known: Known, open_routes: OpenRoutes, first: Place) -> None:
        self.plan = plan
        self._known, self._open_routes, self._first = known, open_routes, first
        self._keys = dict(known.keys)
        self._not_sent = set(known.not_sent)
        self._answered: set[str] = set()

    def not_sent(self, item: NotSent) -> None:
        route = item.route
        if route.cl_ord_id not in self._not_sent:
            self._not_sent.add(route.cl_ord_id)
            self.plan.executions.append(rows.not_sent(self._place(), route, item.reason, item.decided_at_ns))
        self.plan.done[route.cl_ord_id] = route.position

    def message(self, message: Message) -> None:
        if message.received.resets_session:
            return
        problem = message.problem or self._problem(message)
        if problem:
            self._bury(message, problem)
            if message.report is not None and message.problem:
                self.plan.learnt.append(message)
            return
        assert message.report is not None
        route = self._known.routes[message.report.cl_ord_id]
        if message.key in self._keys:
            self.plan.duplicates += 1
        else:
            self._keys[message.key] = message.content
            self.plan.executions.append(self._row(message, message.report, route))
        self.plan.learnt.append(message)
        if message.report.ends_the_route:
            self.plan.done[route.cl_ord_id] = route.position

    def _problem(self, message: Message) -> str:
        """Why a message that can be read cannot be applied."""
        assert message.report is not None
        route = self._known.routes.get(message.report.cl_ord_id)
        if route is None:
            return f"no order has the ClOrdID {message.report.cl_ord_id!r}"
        if message.content is not None and self._keys.get(message.key, message.content) != message.content:
            return f"another execution has this ExecID: {self._keys[message.key]}"
        return contradiction(message.report, route)

    def _bury(self, message: Message, reason: str) -> None:
        if SeqKey(message.epoch, message.seq_num) in self._known.buried:
            self.plan.duplicates += 1
            return
        letter = DeadLetter(
            venue=self.plan.mark.venue,
            session=self.plan.mark.session,
            epoch=message.epoch,
            msg_seq_num=message.seq_num,
            reason=fix.clean(reason),
            raw=fix.to_bytes(message.received.raw),
            received_at_ns=message.received.received_at_ns,
            recorded_at_ns=self._first.now_ns,
        )
        self.plan.dead_letters.append(letter)

    def _place(self) -> Place:
        return replace(self._first, position=self._first.position + len(self.plan.executions))

    def _row(self, message: Message, report: Report, route: Route) -> Execution:
        received_at_ns, session = message.received.received_at_ns, self.plan.mark.session
        origin = Origin(session, message.epoch, message.seq_num, message.poss_dup, received_at_ns, message.raw)
        return rows.of_report(self._place(), origin, report, route, self._sent_at(route.cl_ord_id))

    def _sent_at(self, cl_ord_id: str) -> int | None:
        """Only the first row that answers a request carries when the request went out."""
        opened = self._open_routes.get(cl_ord_id)
        if opened is None or cl_ord_id in self._answered:
            return None
        self._answered.add(cl_ord_id)
        return opened.sent_at_ns
