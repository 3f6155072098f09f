"""What an engine on QuickFIX has to guard against, and QuickFIX does not tell."""

from typing import Any


def keeps_its_place(session: Any, msg_seq_num: int) -> bool:
    """To be asked in fromAdmin of a Reject(3) or Logout(5). False if it came ahead of its turn.

    QuickFIX takes these two whatever their number and counts on, so the message whose turn it is, perhaps an order or a
    fill, would never be asked for. Stepping back by one before it counts keeps the number.
    """
    expected = session.getExpectedTargetNum()
    if msg_seq_num <= expected:
        return True
    session.setNextTargetMsgSeqNum(expected - 1)
    return False


class StoreWatch:
    """Notices a store that has failed, as on a full disk: every message after that fails too, logons included, for the
    file's error flag stays set when the disk is healed. Only a new process gets out of it."""

    def __init__(self) -> None:
        self._made = 0
        self._suspected = 0

    def made(self, msg_seq_num: int) -> None:
        """QuickFIX is about to store a new message (one without PossDup) under this number."""
        self._made = msg_seq_num

    def is_broken(self, next_msg_seq_num: int) -> bool:
        """To be asked now and then, with the number of the next message. True when the same message was made and not
        counted at two looks in a row: once alone, it is only just being stored."""
        stuck = self._made if next_msg_seq_num <= self._made else 0
        broken = bool(stuck) and stuck == self._suspected
        self._suspected = stuck
        return broken
