"""Stop orders of one symbol that wait for their price. No I/O, no clock."""

from bisect import bisect_left, insort

from exchange.orders import Order, Side


class Stops:
    """Stop orders that wait for their price, per side: the one that is reached first stands last."""

    def __init__(self) -> None:
        self._waiting: dict[Side, list[tuple[int, int, int]]] = {Side.BUY: [], Side.SELL: []}

    def add(self, order: Order) -> None:
        insort(self._waiting[order.side], self._key(order))

    def remove(self, order: Order) -> None:
        waiting = self._waiting[order.side]
        del waiting[bisect_left(waiting, self._key(order))]

    def reached(self, last: int) -> list[int]:
        """References of the orders whose price `last` has reached, in the order in which they began to wait. They wait
        no longer."""
        reached: list[tuple[int, int]] = []
        for side, sign in ((Side.BUY, -1), (Side.SELL, 1)):
            waiting = self._waiting[side]
            while waiting and waiting[-1][0] >= sign * last:
                reached.append(waiting.pop()[1:])
        return [ref for _, ref in sorted(reached)]

    def _key(self, order: Order) -> tuple[int, int, int]:
        assert order.stop is not None
        return (-order.stop if order.side is Side.BUY else order.stop), order.place, order.ref
