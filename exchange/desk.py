"""What the venue says on its FIX sessions, and what it understands. Called in the sessions' one thread.

Reports go to the order's owner, and to the drop copy sessions that copy it; both read `market.reports` with a cursor,
which is the mark that the session's store keeps with each message. So a report is stored under a number exactly once,
whenever the process is killed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from exchange import dialect
from exchange.config import Config, Counterparty
from exchange.dialect import Fields
from exchange.feed import Feed
from exchange.journal import JournalError
from exchange.orders import Report
from exchange.sequence import sequence_number
from exchange.server import Server
from exchange.venue import Venue

COPIES_AT_ONCE: Final = 500  # of a replay, so that others are not delayed
UNKNOWN_SECURITY: Final = 2  # BusinessRejectReason(380)
UNSUPPORTED: Final = 3
OTHER: Final = 0
NAMES: Final = ("11", "41", "1", "55", "37", "5500", "324", "335")
NAME_CHARACTERS_MAX: Final = 64
SUBSCRIBE: Final = "1"  # SubscriptionRequestType(263); 0 is a snapshot alone
UNSUBSCRIBE: Final = "2"


@dataclass(slots=True)
class Copier:
    """A drop copy session. `next`: number of the first report not yet looked at; those up to `known` it may have had
    before: after a start all there are, for the last process may have ended in the middle of a replay."""

    party: Counterparty
    next: int
    known: int


class Desk:
    """The application behind the sessions (`server.Application`)."""

    def __init__(self, venue: Venue, feed: Feed, config: Config, clock: Callable[[], int]) -> None:
        self._venue = venue
        self._feed = feed
        self._config = config
        self._clock = clock
        self._parties = {party.comp_id: party for party in config.counterparties}
        self._copiers: dict[str, Copier] = {}
        self._told = 0
        self._subscribers = Subscribers()
        self._handlers: dict[str, Callable[[str, Fields, int], None]] = {
            "D": self._on_new_order,
            "F": self._on_change,
            "G": self._on_change,
            "H": self._on_status,
            "e": self._on_security_status,
            "g": self._on_session_status,
        }

    def open(self, server: Server) -> None:
        """To be called first: what a killed process had decided and not stored is stored now."""
        self._server = server
        self._copiers = {
            party.comp_id: Copier(party, server.last_mark(party.comp_id) + 1, len(self._venue.market.reports))
            for party in self._config.counterparties
            if party.copies
        }
        for comp_id in self._parties:
            if server.last_mark(comp_id) > len(self._venue.market.reports):
                raise JournalError(f"{comp_id} has been told more than the journal knows: move sessions/ away with it")
        stored = {comp_id: server.last_mark(comp_id) for comp_id in self._parties.keys() - self._copiers.keys()}
        for said in self._venue.market.reports:
            if said.number > stored.get(said.comp_id, said.number):
                self._send_report(said)
        self._told = len(self._venue.market.reports)
        for party in self._config.counterparties:
            if party.cancel_on_disconnect:
                self._venue.disconnected(party.comp_id, self._clock())
        self.flush()

    # Called by the server

    def logged_on(self, comp_id: str, logon: Fields) -> None:
        copier = self._copiers.get(comp_id)
        wanted = logon.get("5503")
        if copier is None or wanted is None:
            return
        number = sequence_number(wanted)
        if 0 < number <= len(self._venue.market.reports) + 1:
            copier.next, copier.known = number, len(self._venue.market.reports)
        else:
            self._server.end(comp_id, "5503 must be the number of a report")

    def logged_out(self, comp_id: str) -> None:
        self._subscribers.remove(comp_id)
        if self._parties[comp_id].cancel_on_disconnect:
            self._venue.disconnected(comp_id, self._clock())

    def received(self, comp_id: str, fields: Fields, received_ns: int) -> None:
        if fields["35"] == "j":  # two that refuse each other's refusals would never end
            return
        handler, long = self._handlers.get(fields["35"]), _too_long(fields)
        if handler is None:
            self._server.send(comp_id, dialect.business_reject(fields, UNSUPPORTED, "this venue does not serve it"))
        elif comp_id in self._copiers:
            self._server.send(comp_id, dialect.business_reject(fields, OTHER, "a drop copy session only listens"))
        elif not _is_text("".join(fields.values())):
            self._server.send(comp_id, dialect.business_reject(fields, OTHER, "FIX 4.2 text is printable ASCII"))
        elif long:
            text = f"tag {long} has more than {NAME_CHARACTERS_MAX} characters"
            self._server.send(comp_id, dialect.business_reject(fields, OTHER, text))
        else:
            handler(comp_id, fields, received_ns)
            self._tell()

    def flush(self) -> None:
        self._tell()
        for copier in self._copiers.values():
            self._copy(copier)
        self._venue.flush()

    def sent(self) -> None:
        self._venue.publish()
        self._feed.flush()

    def due_ns(self) -> int | None:
        if any(self._may_copy(copier) for copier in self._copiers.values()):
            return 0
        feed_ns = self._clock() + self._feed.wait_ns()
        venue_ns = self._venue.due_ns()
        return feed_ns if venue_ns is None else min(feed_ns, venue_ns)

    def tick(self, now_ns: int) -> None:
        self._venue.advance(now_ns)
        self._feed.tick()

    # Requests

    def _on_new_order(self, comp_id: str, fields: Fields, received_ns: int) -> None:
        if dialect.may_be_repeated(fields) and self._knows(comp_id, fields):
            self._on_status(comp_id, fields, received_ns)
        else:
            self._venue.receive(comp_id, dialect.new_order(fields), received_ns)

    def _on_change(self, comp_id: str, fields: Fields, received_ns: int) -> None:
        if dialect.may_be_repeated(fields) and self._knows(comp_id, fields):
            self._on_status(comp_id, fields, received_ns)
            return
        read = dialect.cancel_request if fields["35"] == "F" else dialect.replace_request
        self._venue.receive(comp_id, read(fields), received_ns)

    def _knows(self, comp_id: str, fields: Fields) -> bool:
        return (comp_id, fields["11"]) in self._venue.market.names

    def _on_status(self, comp_id: str, fields: Fields, received_ns: int) -> None:
        self._venue.advance(received_ns)
        self._tell()  # what has happened comes before how it stands
        order = self._venue.market.find(comp_id, fields["11"])
        now_ns = self._clock()
        if order:
            self._server.send(comp_id, dialect.status_report(order, fields["11"], received_ns, now_ns))
        else:
            self._server.send(comp_id, dialect.unknown_order_report(fields, received_ns, now_ns))

    def _on_security_status(self, comp_id: str, fields: Fields, received_ns: int) -> None:
        symbol, req_id = fields["55"], fields["324"]
        if symbol not in self._venue.market.listings:
            text = f"{symbol} is not traded here"
            self._server.send(comp_id, dialect.business_reject(fields, UNKNOWN_SECURITY, text))
        elif self._subscribers.subscribe(comp_id, symbol, req_id, fields["263"]):
            self._send_security_status(comp_id, symbol, req_id, received_ns)

    def _on_session_status(self, comp_id: str, fields: Fields, received_ns: int) -> None:
        self._venue.advance(received_ns)
        if self._subscribers.subscribe(comp_id, "", fields["335"], fields["263"]):
            phase = self._venue.market.phase
            self._server.send(comp_id, dialect.trading_session_status(phase, fields["335"], unsolicited=False))

    # Answers

    def _tell(self) -> None:
        """What has happened since the last time, to whom it concerns."""
        reports = self._venue.market.reports
        while self._told < len(reports):
            self._send_report(reports[self._told])
            self._told += 1
        for symbol in self._venue.take_notices():
            for comp_id, req_id in self._subscribers.of(symbol):
                if symbol:
                    self._send_security_status(comp_id, symbol, req_id, self._clock())
                else:
                    phase = self._venue.market.phase
                    self._server.send(comp_id, dialect.trading_session_status(phase, req_id, unsolicited=True))

    def _send_report(self, said: Report) -> None:
        # It may have left the configuration, or become a drop copy, whose own reports come with those it copies.
        if said.comp_id in self._parties and said.comp_id not in self._copiers:
            decided_ns = self._venue.decided_ns[said.number - 1]
            self._server.send(said.comp_id, dialect.report(said, decided_ns), mark=said.number)

    def _send_security_status(self, comp_id: str, symbol: str, req_id: str, now_ns: int) -> None:
        listing = self._venue.market.listings[symbol]
        self._server.send(comp_id, dialect.security_status(symbol, listing.halted, listing.last, req_id, now_ns))

    def _may_copy(self, copier: Copier) -> bool:
        comp_id = copier.party.comp_id
        return (
            copier.next <= len(self._venue.market.reports)
            and self._server.is_logged_on(comp_id)
            and not self._server.is_behind(comp_id)
        )

    def _copy(self, copier: Copier) -> None:
        if not self._may_copy(copier):
            return
        reports, own = self._venue.market.reports, copier.party.comp_id
        last = min(len(reports), copier.next - 1 + COPIES_AT_ONCE)
        for said in reports[copier.next - 1 : last]:
            if said.comp_id == own or said.comp_id in copier.party.copies:
                decided_ns = self._venue.decided_ns[said.number - 1]
                resent, copied = said.number <= copier.known, said.comp_id != own
                self._server.send(own, dialect.report(said, decided_ns, resent=resent, copied=copied), mark=said.number)
        copier.next = last + 1


class Subscribers:
    """Who wants to hear of changes: of a symbol's trading state, or of the phase (symbol "")."""

    def __init__(self) -> None:
        self._req_ids: dict[tuple[str, str], str] = {}

    def subscribe(self, comp_id: str, symbol: str, req_id: str, wanted: str) -> bool:
        """By SubscriptionRequestType(263). Whether the state is to be told now."""
        if wanted == SUBSCRIBE:
            self._req_ids[comp_id, symbol] = req_id
        elif wanted == UNSUBSCRIBE:
            self._req_ids.pop((comp_id, symbol), None)
        return wanted != UNSUBSCRIBE

    def of(self, symbol: str) -> list[tuple[str, str]]:
        """(CompID, the request's id) of each."""
        return [(comp_id, req_id) for (comp_id, about), req_id in self._req_ids.items() if about == symbol]

    def remove(self, comp_id: str) -> None:
        for key in [key for key in self._req_ids if key[0] == comp_id]:
            del self._req_ids[key]


def _too_long(fields: Fields) -> str:
    """The first tag whose value is too long to be kept for ever and repeated on every report."""
    return next((tag for tag in NAMES if len(fields.get(tag, "")) > NAME_CHARACTERS_MAX), "")


def _is_text(text: str) -> bool:
    return text.isascii() and text.isprintable()
