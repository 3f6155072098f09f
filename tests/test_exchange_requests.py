"""What the venue answers to requests beyond the matrices: rows of wire strings, as `exchange_script.py` reads them.

The house shows 100 shares at 99.99 and 99.98, and at 100.01 and 100.02, but in HOURS; the last trade was at 100.00.
"""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exchange.operate import ask
from runtime import calendar
from tests.exchange_process import VenueProcess
from tests.exchange_script import OTHER, OWN, Script, Stage, on_stage, scripts
from tests.fix_client import FixClient, RawFixClient, field, has

HOUSE = "levels=2\nshares_per_level=100"

RESTING = """
> 35=D|11=X|1=acc|38=100|44=99.50
< 35=8|11=X|1=acc|37=?O|150=0|39=0|20=0|38=100|40=2|44=99.50|59=0|14=0|151=100|32=0|31=0.00|6=0.00
"""
HALF_DONE = """
> 35=D|11=X|38=200|44=100.01
< 35=8|11=X|37=?O|150=0|39=0|14=0|151=200
< 35=8|11=X|17=?E|150=1|39=1|14=100|151=100|32=100|31=100.01|6=100.01
"""
DONE = """
> 35=D|11=X|38=100|44=100.01
< 35=8|11=X|37=?O|150=0|39=0|14=0|151=100
< 35=8|11=X|17=?E|150=2|39=2|14=100|151=0|32=100|31=100.01|6=100.01
"""

TRADING: dict[str, str] = {
    "market order": """
> 35=D|11=X|1=acc|38=50|40=1
< 35=8|11=X|1=acc|150=0|39=0|20=0|38=50|40=1|44=|59=0|14=0|151=50|32=0|31=0.00|6=0.00
< 35=8|11=X|1=acc|150=2|39=2|20=0|38=50|40=1|44=|59=0|14=50|151=0|32=50|31=100.01|6=100.01
""",
    "market order over two prices": """
> 35=D|11=X|38=150|40=1
< 35=8|11=X|150=0|39=0|14=0|151=150
< 35=8|11=X|150=1|39=1|14=100|151=50|32=100|31=100.01|6=100.01
< 35=8|11=X|150=2|39=2|14=150|151=0|32=50|31=100.02|6=100.0133
""",
    "market order larger than the book": """
> 35=D|11=X|54=2|38=300|40=1
< 35=8|11=X|54=2|150=0|39=0|14=0|151=300
< 35=8|11=X|54=2|150=1|39=1|14=100|151=200|32=100|31=99.99|6=99.99
< 35=8|11=X|54=2|150=1|39=1|14=200|151=100|32=100|31=99.98|6=99.985
< 35=8|11=X|54=2|150=4|39=4|14=200|151=0|32=0|31=0.00|6=99.985
""",
    "quantity and price as decimals": """
> 35=D|11=X|38=100.0|44=099.5000
< 35=8|11=X|150=0|39=0|38=100.0|44=099.5000|14=0|151=100
""",
    "limit order executed at the resting order's price, then resting at its own": """
> 35=D|11=X|38=150|44=100.01
< 35=8|11=X|150=0|39=0|14=0|151=150
< 35=8|11=X|150=1|39=1|14=100|151=50|32=100|31=100.01
B> 35=D|11=1|38=50|44=100.00
< 35=8|11=X|150=2|39=2|14=150|151=0|32=50|31=100.01|6=100.01
B< 35=8|11=1|150=2|32=50|31=100.01
""",
    "first come, first served at one price": """
> 35=D|11=X|38=10|44=100.00
< 35=8|11=X|150=0
> 35=D|11=Y|38=10|44=100.00
< 35=8|11=Y|150=0
B> 35=D|11=1|38=15|44=100.00
< 35=8|11=X|150=2|32=10
< 35=8|11=Y|150=1|32=5|151=5
""",
    "a replace to less at the same price keeps its place": """
> 35=D|11=X|38=20|44=100.00
< 35=8|11=X|150=0
> 35=D|11=Y|38=10|44=100.00
< 35=8|11=Y|150=0
> 35=G|11=Z|41=X|38=10|44=100.00
< 35=8|11=Z|41=X|150=5|39=5|38=10|151=10
B> 35=D|11=1|38=15|44=100.00
< 35=8|11=Z|150=2|32=10
< 35=8|11=Y|150=1|32=5|151=5
""",
    "a replace to more at the same price goes behind the others": """
> 35=D|11=X|38=10|44=100.00
< 35=8|11=X|150=0
> 35=D|11=Y|38=10|44=100.00
< 35=8|11=Y|150=0
> 35=G|11=Z|41=X|38=20|44=100.00
< 35=8|11=Z|41=X|150=5|39=5|38=20|151=20
B> 35=D|11=1|38=15|44=100.00
< 35=8|11=Y|150=2|32=10
< 35=8|11=Z|150=1|32=5|151=15
""",
    "a replace to a price that crosses executes at once": RESTING
    + """
> 35=G|11=Y|41=X|1=acc|38=100|44=100.02
< 35=8|11=Y|41=X|150=5|39=5|38=100|44=100.02|14=0|151=100|32=0
< 35=8|11=Y|150=2|39=2|38=100|44=100.02|14=100|151=0|32=100|31=100.01
""",
    "a replace of day to good till cancel": RESTING
    + """
> 35=G|11=Y|41=X|1=acc|38=100|44=99.50|59=1
< 35=8|11=Y|41=X|150=5|39=5|59=1|38=100|14=0|151=100
""",
    "a replace of a replaced order, and of the name it had before": RESTING
    + """
> 35=G|11=Y|41=X|1=acc|38=200|44=99.50
< 35=8|11=Y|41=X|150=5|39=5|38=200|14=0|151=200
> 35=G|11=Z|41=X|1=acc|38=300|44=99.50
< 35=9|11=Z|41=X|37={O}|39=5|434=2|102=1|58=OrigClOrdID(41) is not the order's present ClOrdID
> 35=F|11=V|41=X
< 35=9|11=V|41=X|37={O}|39=5|434=1|102=1|58=OrigClOrdID(41) is not the order's present ClOrdID
> 35=G|11=W|41=Y|1=acc|38=300|44=99.50
< 35=8|11=W|41=Y|150=5|39=5|38=300|14=0|151=300
> 35=F|11=U|41=W|37={O}
< 35=8|11=U|41=W|150=4|39=4|38=300|14=0|151=0
""",
    "immediate or cancel, executed in part": """
> 35=D|11=X|38=150|44=100.01|59=3
< 35=8|11=X|150=0|39=0|59=3|14=0|151=150
< 35=8|11=X|150=1|39=1|14=100|151=50|32=100|31=100.01
< 35=8|11=X|150=4|39=4|14=100|151=0|32=0|6=100.01
""",
    "immediate or cancel, not executed": """
> 35=D|11=X|38=150|44=99|59=3
< 35=8|11=X|150=0|39=0|14=0|151=150
< 35=8|11=X|150=4|39=4|14=0|151=0|6=0.00
""",
    "fill or kill, filled over two prices": """
> 35=D|11=X|38=200|44=100.02|59=4
< 35=8|11=X|150=0|39=0|59=4|14=0|151=200
< 35=8|11=X|150=1|39=1|14=100|151=100|32=100|31=100.01
< 35=8|11=X|150=2|39=2|14=200|151=0|32=100|31=100.02|6=100.015
""",
    "fill or kill, one share too many": """
> 35=D|11=X|38=201|44=100.02|59=4
< 35=8|11=X|150=0|39=0|14=0|151=201
< 35=8|11=X|150=4|39=4|14=0|151=0
""",
    "fill or kill at any price": """
> 35=D|11=X|38=201|40=1|59=4
< 35=8|11=X|150=0|39=0|14=0|151=201
< 35=8|11=X|150=4|39=4|14=0|151=0
""",
    "stop order, triggered by a trade of others": """
> 35=D|11=X|38=50|40=3|99=100.01
< 35=8|11=X|150=0|39=0|40=3|99=100.01|44=|14=0|151=50
B> 35=D|11=1|54=1|38=10|40=1
< 35=8|11=X|150=2|39=2|40=3|99=100.01|14=50|151=0|32=50|31=100.01
""",
    "stop order whose price has been reached already": """
> 35=D|11=X|38=50|40=3|99=99.99
< 35=8|11=X|150=0|39=0|40=3|99=99.99|14=0|151=50
< 35=8|11=X|150=2|39=2|14=50|151=0|32=50|31=100.01
""",
    "stop limit order, triggered, then resting at its limit": """
> 35=D|11=X|54=2|38=150|40=4|99=99.99|44=99.99|59=1
< 35=8|11=X|54=2|150=0|39=0|40=4|99=99.99|44=99.99|14=0|151=150
B> 35=D|11=1|38=10|40=1
< 35=8|11=X|54=2|150=1|39=1|14=90|151=60|32=90|31=99.99
> 35=F|11=Y|41=X|54=2
< 35=8|11=Y|41=X|54=2|150=4|39=4|14=90|151=0
""",
    "stop order, replaced and cancelled while it waits": """
> 35=D|11=X|38=50|40=3|99=101.00
< 35=8|11=X|150=0|39=0
> 35=G|11=Y|41=X|38=60|40=3|99=100.50
< 35=8|11=Y|41=X|150=5|39=5|40=3|99=100.50|38=60|151=60
> 35=F|11=Z|41=Y
< 35=8|11=Z|41=Y|150=4|39=4|14=0|151=0
""",
    "self-trade: what would trade with the same account is cancelled": """
> 35=D|11=X|1=acc|38=100|44=100.00
< 35=8|11=X|150=0
> 35=D|11=Y|1=acc|54=2|38=50|44=100.00
< 35=8|11=Y|54=2|150=0|39=0|14=0|151=50
< 35=8|11=Y|54=2|150=4|39=4|378=4|14=0|151=0|58=it would have traded with an order of the same account
""",
    "self-trade: others' orders before one's own are taken": """
> 35=D|11=X|1=acc|38=100|44=99.98
< 35=8|11=X|150=0
> 35=D|11=Y|1=acc|54=2|38=300|40=1
< 35=8|11=Y|54=2|150=0|39=0|14=0|151=300
< 35=8|11=Y|54=2|150=1|39=1|14=100|151=200|32=100|31=99.99
< 35=8|11=Y|54=2|150=1|39=1|14=200|151=100|32=100|31=99.98
< 35=8|11=Y|54=2|150=4|39=4|378=4|14=200|151=0
""",
    "self-trade: fill or kill behind one's own order": """
> 35=D|11=X|1=acc|38=100|44=100.00
< 35=8|11=X|150=0
> 35=D|11=Y|1=acc|54=2|38=150|44=99.99|59=4
< 35=8|11=Y|54=2|150=0|39=0|14=0|151=150
< 35=8|11=Y|54=2|150=4|39=4|14=0|151=0
""",
    "self-trade: orders without an account trade with each other": """
> 35=D|11=X|38=100|44=100.00
< 35=8|11=X|150=0
> 35=D|11=Y|54=2|38=50|44=100.00
< 35=8|11=Y|54=2|150=0
< 35=8|11=Y|54=2|150=2|39=2|14=50|151=0|32=50|31=100.00
< 35=8|11=X|150=1|39=1|14=50|151=50|32=50|31=100.00
""",
    "self-trade: the same account of another counterparty is another": RESTING
    + """
B> 35=D|11=1|1=acc|38=300|44=99.50
< 35=8|11=X|1=acc|150=2|39=2|14=100|151=0|32=100|31=99.50
""",
    "the house comes back": """
> 35=D|11=X|38=100|40=1
< 35=8|11=X|150=0
< 35=8|11=X|150=2|31=100.01
> 35=D|11=Y|38=100|40=1
< 35=8|11=Y|150=0
< 35=8|11=Y|150=2|31=100.01
""",
    "counterparties have their own names for orders": RESTING
    + """
B> 35=D|11=X|38=10|44=101
B< 35=8|11=X|150=0
B> 35=F|11=Y|41=X
B< 35=8|11=Y|41=X|150=4
> 35=F|11=Y|41=X
< 35=8|11=Y|41=X|150=4|39=4|14=0|151=0
""",
    "a bust reaches both sides, and the order that lives has its shares again": """
> 35=D|11=X|38=100|44=100.00
< 35=8|11=X|150=0
B> 35=D|11=1|38=100|44=100.00|59=3
B< 35=8|11=1|17=?E|150=2
< 35=8|11=X|17=?A|150=2|39=2|14=100|151=0|32=100|31=100.00
op bust exec_id={E}
< 35=8|11=X|19={A}|20=1|150=1|39=0|14=0|151=100|32=0|31=0.00|6=0.00
B< 35=8|11=1|19={E}|20=1|150=1|39=0|14=0|151=100|32=0|31=0.00|6=0.00
B< 35=8|11=1|20=0|150=4|39=4|14=0|151=0
B> 35=D|11=2|38=100|44=100.00|59=3
< 35=8|11=X|20=0|150=2|39=2|14=100|151=0|32=100|31=100.00
refused bust exec_id={A}
refused correct exec_id={A} shares=100 price=100.00
""",
    # Nobody has ended either, but a bust that lets them trade again at once would undo nothing.
    "after a bust of two orders that live the one that was resting stays, the other is cancelled": """
> 35=D|11=X|38=100|44=100.00
< 35=8|11=X|150=0
B> 35=D|11=1|38=100|44=100.00
B< 35=8|11=1|17=?E|150=2
< 35=8|11=X|17=?A|150=2|39=2|14=100|151=0|32=100|31=100.00
op bust exec_id={A}
B< 35=8|11=1|19={E}|20=1|150=1|39=0|14=0|151=100
< 35=8|11=X|19={A}|20=1|150=1|39=0|14=0|151=100
B< 35=8|11=1|20=0|150=4|39=4|14=0|151=0|378=4
B> 35=D|11=2|38=100|44=100.00|59=3
< 35=8|11=X|20=0|150=2|39=2|14=100|151=0|32=100|31=100.00
""",
    "a correction reaches both sides": """
> 35=D|11=X|38=100|44=100.00
< 35=8|11=X|150=0
B> 35=D|11=1|38=60|44=100.00|59=3
B< 35=8|11=1|17=?E|150=2
< 35=8|11=X|17=?A|150=1|39=1|14=60|151=40|32=60|31=100.00
refused correct exec_id={A} shares=61 price=100.00
refused correct exec_id={A} shares=50 price=100.001
op correct exec_id={A} shares=50 price=99.00
< 35=8|11=X|17=?B|19={A}|20=2|150=1|39=1|14=50|151=50|32=50|31=99.00|6=99.00
B< 35=8|11=1|19={E}|20=2|150=1|39=1|14=50|151=10|32=50|31=99.00|6=99.00
B< 35=8|11=1|20=0|150=4|39=4|14=50|151=0
refused bust exec_id={A}
op bust exec_id={B}
< 35=8|11=X|19={B}|20=1|150=1|39=0|14=0|151=100|32=0|31=0.00|6=0.00
> 35=F|11=Y|41=X
< 35=8|11=Y|41=X|150=4|39=4|14=0|151=0
""",
    "halt: cancels pass, orders and replaces do not": RESTING
    + """
> 35=D|11=V|38=100|44=99.50
< 35=8|11=V|150=0|39=0
op halt symbol={s}
refused halt symbol={s}
> 35=D|11=Y|38=100|44=99.50
< 35=8|11=Y|150=8|39=8|103=2|14=0|151=0|58=trading in this symbol is halted
> 35=G|11=Z|41=X|1=acc|38=200|44=99.50
< 35=9|11=Z|41=X|39=0|434=2|102=2|58=trading in this symbol is halted
> 35=F|11=W|41=X
< 35=8|11=W|41=X|150=4|39=4|14=0|151=0
op resume symbol={s}
refused resume symbol={s}
> 35=G|11=U|41=V|38=200|44=99.50
< 35=8|11=U|41=V|150=5|39=5|38=200|14=0|151=200
""",
    "a suspended order does not trade until it is released": """
> 35=D|11=X|38=100|44=100.00
< 35=8|11=X|37=?O|150=0
op mark order_id={O} what=9
< 35=8|11=X|150=9|39=9|20=0|38=100|14=0|151=100|32=0|31=0.00
B> 35=D|11=1|38=100|44=100.00|59=3
B< 35=8|11=1|150=4|39=4|14=0
> 35=H|11=X
< 35=8|11=X|17=0|20=3|150=9|39=9|14=0|151=100
> 35=G|11=Y|41=X|38=200|44=100.00
< 35=9|11=Y|41=X|39=9|434=2|102=2|58=the order is suspended
op release order_id={O}
< 35=8|11=X|150=D|39=0|20=0|378=4|14=0|151=100
B> 35=D|11=2|38=100|44=100.00|59=3
< 35=8|11=X|150=2|39=2|14=100|151=0|32=100|31=100.00
""",
    "a suspended order is cancelled": RESTING
    + """
op mark order_id={O} what=9
< 35=8|11=X|150=9|39=9|14=0|151=100
> 35=F|11=Y|41=X
< 35=8|11=Y|41=X|1=acc|150=4|39=4|14=0|151=0
> 35=F|11=Z|41=Y
< 35=9|11=Z|41=Y|39=4|434=1|102=0
""",
    "a stopped order is cancelled": RESTING
    + """
op mark order_id={O} what=7
< 35=8|11=X|150=7|39=7|14=0|151=100
> 35=F|11=Y|41=X
< 35=8|11=Y|41=X|1=acc|150=4|39=4|14=0|151=0
> 35=F|11=Z|41=Y
< 35=9|11=Z|41=Y|39=4|434=1|102=0
""",
}

# Each, but for pending and expired, which need time: see the other tables.
STATUS: dict[str, str] = {
    "new": RESTING
    + """
> 35=H|11=X
< 35=8|11=X|1=acc|17=0|20=3|150=0|39=0|38=100|40=2|44=99.50|59=0|14=0|151=100|32=0|31=0|6=0.00
""",
    "partially filled": HALF_DONE
    + """
> 35=H|11=X
< 35=8|11=X|17=0|20=3|150=1|39=1|38=200|14=100|151=100|32=0|31=0|6=100.01
""",
    "filled": DONE
    + """
> 35=H|11=X
< 35=8|11=X|17=0|20=3|150=2|39=2|38=100|14=100|151=0|32=0|31=0|6=100.01
""",
    "done for day": HALF_DONE
    + """
op mark order_id={O} what=3
< 35=8|11=X|150=3|39=3|14=100|151=0
> 35=H|11=X
< 35=8|11=X|17=0|20=3|150=3|39=3|38=200|14=100|151=0
""",
    "canceled, by both names": HALF_DONE
    + """
> 35=F|11=Y|41=X
< 35=8|11=Y|41=X|150=4|39=4|14=100|151=0
> 35=H|11=X
< 35=8|11=Y|41=X|17=0|20=3|150=4|39=4|38=200|14=100|151=0|6=100.01
> 35=H|11=Y
< 35=8|11=Y|17=0|20=3|150=4|39=4|38=200|14=100|151=0|6=100.01
""",
    "replaced, by all its names": RESTING
    + """
> 35=G|11=Y|41=X|1=acc|38=200|44=99.50
< 35=8|11=Y|41=X|150=5|39=5|38=200
> 35=G|11=Z|41=Y|1=acc|38=300|44=99.40
< 35=8|11=Z|41=Y|150=5|39=5|38=300
> 35=H|11=X
< 35=8|11=Z|41=X|17=0|20=3|150=5|39=5|38=300|44=99.40|14=0|151=300
> 35=H|11=Y
< 35=8|11=Z|41=Y|17=0|20=3|150=5|39=5|38=300|44=99.40|14=0|151=300
> 35=H|11=Z
< 35=8|11=Z|17=0|20=3|150=5|39=5|38=300|44=99.40|14=0|151=300
""",
    "stopped": RESTING
    + """
op mark order_id={O} what=7
< 35=8|11=X|150=7|39=7|14=0|151=100
> 35=H|11=X
< 35=8|11=X|17=0|20=3|150=7|39=7|14=0|151=100
""",
    "rejected": """
> 35=D|11=X|38=0|40=1
< 35=8|11=X|150=8|39=8|103=0|38=0|14=0|151=0
> 35=H|11=X
< 35=8|11=X|17=0|20=3|150=8|39=8|103=0|38=0|14=0|151=0|58=OrderQty(38) must be a positive whole number of shares
""",
    "suspended": RESTING
    + """
op mark order_id={O} what=9
< 35=8|11=X|150=9|39=9|14=0|151=100
> 35=H|11=X
< 35=8|11=X|17=0|20=3|150=9|39=9|14=0|151=100
""",
    "calculated": DONE
    + """
refused mark order_id={O} what=9
op mark order_id={O} what=B
< 35=8|11=X|150=B|39=B|20=0|14=100|151=0|32=0|6=100.01
> 35=H|11=X
< 35=8|11=X|17=0|20=3|150=B|39=B|14=100|151=0
""",
    "busted": DONE
    + """
op bust exec_id={E}
< 35=8|11=X|19={E}|20=1|150=1|39=0|14=0|151=100|6=0.00
< 35=8|11=X|20=0|150=4|39=4|14=0|151=0|378=4
> 35=H|11=X
< 35=8|11=X|17=0|20=3|150=4|39=4|14=0|151=0
""",
    "by the name of a refused cancel": RESTING
    + """
> 35=F|11=Y|41=X|54=2
< 35=9|11=Y|41=X|102=1
> 35=H|11=Y
< 35=8|11=X|41=Y|17=0|20=3|150=0|39=0|14=0|151=100
""",
    "by the name of a cancel of no order": """
> 35=F|11=Y|41=X
< 35=9|11=Y|41=X|37=NONE|39=8|434=1|102=1
> 35=H|11=Y|1=acc
< 35=8|11=Y|1=acc|37=NONE|17=0|20=3|150=8|39=8|103=5|14=0|151=0
""",
}

REPEATED: dict[str, str] = {
    "an order that is known": """
> 35=D|11=X|38=100|40=1
< 35=8|11=X|150=0
< 35=8|11=X|150=2|39=2|14=100
> 35=D|97=Y|11=X|38=100|40=1
< 35=8|11=X|17=0|20=3|150=2|39=2|14=100|151=0
""",
    "an order that is not": """
> 35=D|97=Y|11=X|38=100|40=1
< 35=8|11=X|20=0|150=0|39=0
< 35=8|11=X|20=0|150=2|39=2|14=100
""",
    "an order that was rejected": """
> 35=D|11=X|38=0|40=1
< 35=8|11=X|150=8|39=8|103=0
> 35=D|97=Y|11=X|38=0|40=1
< 35=8|11=X|17=0|20=3|150=8|39=8|103=0|14=0|151=0
""",
    "an order that was replaced since": RESTING
    + """
> 35=G|11=Y|41=X|1=acc|38=200|44=99.50
< 35=8|11=Y|41=X|150=5|39=5|38=200
> 35=D|97=Y|11=X|1=acc|38=100|44=99.50
< 35=8|11=Y|41=X|17=0|20=3|150=5|39=5|38=200|14=0|151=200
""",
    "a cancel that is known": RESTING
    + """
> 35=F|11=Y|41=X
< 35=8|11=Y|41=X|20=0|150=4|39=4
> 35=F|97=Y|11=Y|41=X
< 35=8|11=Y|17=0|20=3|150=4|39=4|14=0|151=0
""",
    "a cancel that is not": RESTING
    + """
> 35=F|97=Y|11=Y|41=X
< 35=8|11=Y|41=X|20=0|150=4|39=4|14=0|151=0
""",
    "a cancel that was refused": RESTING
    + """
> 35=F|11=Y|41=X|54=2
< 35=9|11=Y|41=X|102=1
> 35=F|97=Y|11=Y|41=X|54=2
< 35=8|11=X|41=Y|17=0|20=3|150=0|39=0|14=0|151=100
""",
    "a cancel of no order": """
> 35=F|97=Y|11=Y|41=X
< 35=9|11=Y|41=X|37=NONE|39=8|434=1|102=1
> 35=F|97=Y|11=Y|41=X
< 35=8|11=Y|37=NONE|17=0|20=3|150=8|39=8|103=5|14=0|151=0
""",
    "a replace that is known": RESTING
    + """
> 35=G|11=Y|41=X|1=acc|38=200|44=99.50
< 35=8|11=Y|41=X|20=0|150=5|39=5|38=200
> 35=G|97=Y|11=Y|41=X|1=acc|38=200|44=99.50
< 35=8|11=Y|17=0|20=3|150=5|39=5|38=200|14=0|151=200
""",
    "a replace that is not": RESTING
    + """
> 35=G|97=Y|11=Y|41=X|1=acc|38=200|44=99.50
< 35=8|11=Y|41=X|20=0|150=5|39=5|38=200|14=0|151=200
""",
}

# name: (an order's fields, OrdRejReason(103), Text(58))
BAD_ORDERS: dict[str, tuple[str, int, str]] = {
    "unknown symbol": ("55=NONE|38=10|40=1", 1, "Symbol(55) is not traded here"),
    "sell short": ("54=5|38=10|40=1", 0, "Side(54) must be 1 (buy) or 2 (sell)"),
    "market on close": (
        "38=10|40=5",
        0,
        "OrdType(40) must be 1 (market), 2 (limit), 3 (stop) or 4 (stop limit)",
    ),
    "good till crossing": (
        "38=10|40=1|59=5",
        0,
        "TimeInForce(59) must be 0 (day), 1 (GTC), 2 (OPG), 3 (IOC), 4 (FOK) or 6 (GTD)",
    ),
    "immediate stop": ("38=10|40=3|99=101|59=3", 0, "a stop order is DAY, GTC or GTD"),
    "for the opening, when open": ("38=10|40=1|59=2", 4, "orders for the opening (OPG) are taken before it only"),
    "no quantity": ("40=1", 0, "OrderQty(38) must be a positive whole number of shares"),
    "quantity 0": ("38=0|40=1", 0, "OrderQty(38) must be a positive whole number of shares"),
    "quantity negative": ("38=-10|40=1", 0, "OrderQty(38) must be a positive whole number of shares"),
    "quantity fractional": ("38=1.5|40=1", 0, "OrderQty(38) must be a positive whole number of shares"),
    "quantity huge": ("38=4294967296|40=1", 3, "OrderQty(38) is more than 4,294,967,295 shares"),
    "quantity beyond any integer": (
        "38=99999999999999999999999999|40=1",
        0,
        "OrderQty(38) must be a positive whole number of shares",
    ),
    "price on a market order": ("38=10|40=1|44=100", 0, "a market order has no Price(44)"),
    "price on a stop order": ("38=10|40=3|99=101|44=100", 0, "a market order has no Price(44)"),
    "no price": ("38=10", 0, "a limit order needs Price(44)"),
    "no price on a stop limit order": ("38=10|40=4|99=101", 0, "a limit order needs Price(44)"),
    "price 0": ("38=10|44=0", 0, "Price(44) must be positive"),
    "price negative": ("38=10|44=-1", 0, "Price(44) must be positive"),
    "price off the tick": ("38=10|44=100.005", 0, "Price(44) is not a multiple of the tick"),
    "price finer than a unit": ("38=10|44=100.00001", 0, "Price(44) is not a multiple of the tick"),
    "price too high": ("38=10|44=429496.73", 3, "Price(44) is more than 429,496.7295"),
    "no stop price": ("38=10|40=3", 0, "a stop order needs StopPx(99)"),
    "stop price on a limit order": ("38=10|44=100|99=101", 0, "only a stop order has StopPx(99)"),
    "stop price off the tick": (
        "38=10|40=3|99=100.001",
        0,
        "StopPx(99) must be a positive multiple of the tick, at most 429,496.7295",
    ),
    "stop price 0": (
        "38=10|40=4|99=0|44=100",
        0,
        "StopPx(99) must be a positive multiple of the tick, at most 429,496.7295",
    ),
    "good till date without one": (
        "38=10|44=100|59=6",
        0,
        "a GTD order needs ExpireDate(432) or ExpireTime(126)",
    ),
    "date on a day order": (
        "38=10|44=100|432=20990101",
        0,
        "only a GTD order has ExpireDate(432) or ExpireTime(126)",
    ),
    "good till a date that has passed": (
        "38=10|44=100|59=6|432=20200102",
        4,
        "ExpireDate(432) or ExpireTime(126) has passed",
    ),
    "good till a time that has passed": (
        "38=10|44=100|59=6|126=20200102-12:00:00",
        4,
        "ExpireDate(432) or ExpireTime(126) has passed",
    ),
}

# name: (what is asked about the resting order X, CxlRejReason(102), Text(58))
BAD_CHANGES: dict[str, tuple[str, int, str]] = {
    "cancel: wrong order id": ("35=F|11=Y|41=X|37=o-1", 1, "OrderID(37) is not this order's"),
    "cancel: wrong symbol": ("35=F|11=Y|41=X|55=GOOGL", 1, "Symbol(55) is not this order's"),
    "cancel: wrong side": ("35=F|11=Y|41=X|54=2", 1, "Side(54) is not this order's"),
    "cancel: the order's own name": ("35=F|11=X|41=X", 2, "ClOrdID(11) was used before"),
    "replace: wrong order id": ("35=G|11=Y|41=X|37=o-1|1=acc|38=9|44=99", 1, "OrderID(37) is not this order's"),
    "replace: wrong symbol": ("35=G|11=Y|41=X|55=GOOGL|1=acc|38=9|44=99", 1, "Symbol(55) is not this order's"),
    "replace: wrong side": ("35=G|11=Y|41=X|54=2|1=acc|38=9|44=99", 1, "Side(54) is not this order's"),
    "replace: the order's own name": ("35=G|11=X|41=X|1=acc|38=9|44=99", 2, "ClOrdID(11) was used before"),
    "replace: no account": ("35=G|11=Y|41=X|38=9|44=99", 2, "Account(1) cannot be changed"),
    "replace: another account": ("35=G|11=Y|41=X|1=bcc|38=9|44=99", 2, "Account(1) cannot be changed"),
    "replace: another type": ("35=G|11=Y|41=X|1=acc|38=9|40=1", 2, "OrdType(40) cannot be changed"),
    "replace: to immediate": (
        "35=G|11=Y|41=X|1=acc|38=9|44=99|59=3",
        2,
        "TimeInForce(59) can be changed among DAY, GTC and GTD only",
    ),
    "replace: price off the tick": (
        "35=G|11=Y|41=X|1=acc|38=9|44=99.005",
        2,
        "Price(44) is not a multiple of the tick",
    ),
    "replace: no price": ("35=G|11=Y|41=X|1=acc|38=9", 2, "a limit order needs Price(44)"),
    "replace: no quantity": (
        "35=G|11=Y|41=X|1=acc|44=99",
        2,
        "OrderQty(38) must be a positive whole number of shares",
    ),
    "replace: quantity 0": (
        "35=G|11=Y|41=X|1=acc|38=0|44=99",
        2,
        "OrderQty(38) must be a positive whole number of shares",
    ),
    "replace: quantity huge": (
        "35=G|11=Y|41=X|1=acc|38=4294967296|44=99",
        2,
        "OrderQty(38) is more than 4,294,967,295 shares",
    ),
    "replace: stop price": ("35=G|11=Y|41=X|1=acc|38=9|44=99|99=98", 2, "only a stop order has StopPx(99)"),
    "replace: good till date without one": (
        "35=G|11=Y|41=X|1=acc|38=9|44=99|59=6",
        2,
        "a GTD order needs ExpireDate(432) or ExpireTime(126)",
    ),
    "replace: good till a date that has passed": (
        "35=G|11=Y|41=X|1=acc|38=9|44=99|59=6|432=20200102",
        2,
        "ExpireDate(432) or ExpireTime(126) has passed",
    ),
}

REFUSED: dict[str, str] = {
    "cancel of an unknown order": """
> 35=F|11=Y|41=X
< 35=9|11=Y|41=X|37=NONE|39=8|434=1|102=1|58=no order has this OrigClOrdID(41)
""",
    "replace of an unknown order": """
> 35=G|11=Y|41=X|38=9|44=99
< 35=9|11=Y|41=X|37=NONE|39=8|434=2|102=1|58=no order has this OrigClOrdID(41)
""",
    "cancel and replace of a filled order": DONE
    + """
> 35=F|11=Y|41=X
< 35=9|11=Y|41=X|37={O}|39=2|434=1|102=0|58=the order is done
> 35=G|11=Z|41=X|38=100|44=102.00
< 35=9|11=Z|41=X|37={O}|39=2|434=2|102=0|58=the order is done
> 35=G|11=V|41=X|38=50|44=100.01
< 35=9|11=V|41=X|37={O}|39=2|434=2|102=0|58=the order is done
""",
    "cancel and replace of a cancelled order": RESTING
    + """
> 35=F|11=Y|41=X
< 35=8|11=Y|41=X|150=4|39=4
> 35=F|11=Z|41=Y
< 35=9|11=Z|41=Y|37={O}|39=4|434=1|102=0
> 35=G|11=V|41=Y|1=acc|38=200|44=99.50
< 35=9|11=V|41=Y|37={O}|39=4|434=2|102=0
> 35=F|11=W|41=X
< 35=9|11=W|41=X|37={O}|39=4|434=1|102=0
""",
    "cancel and replace of a rejected order": """
> 35=D|11=X|38=0|40=1
< 35=8|11=X|37=?O|150=8|39=8|103=0
> 35=F|11=Y|41=X
< 35=9|11=Y|41=X|37={O}|39=8|434=1|102=0
> 35=G|11=Z|41=X|38=10|40=1
< 35=9|11=Z|41=X|37={O}|39=8|434=2|102=0
""",
    "cancel and replace of an order that is done for the day": RESTING
    + """
op mark order_id={O} what=3
< 35=8|11=X|150=3|39=3|14=0|151=0
> 35=F|11=Y|41=X
< 35=9|11=Y|41=X|37={O}|39=3|434=1|102=0
> 35=G|11=Z|41=X|1=acc|38=200|44=99.50
< 35=9|11=Z|41=X|37={O}|39=3|434=2|102=0
""",
    "an order with the name of a cancel": RESTING
    + """
> 35=F|11=Y|41=X
< 35=8|11=Y|41=X|150=4|39=4
> 35=D|11=Y|38=50|44=99.50
< 35=8|11=Y|37={O}|150=8|39=4|103=6|38=100|14=0|151=0|58=ClOrdID(11) was used before
""",
    "an order with the name of a refused cancel": RESTING
    + """
> 35=F|11=Y|41=X|54=2
< 35=9|11=Y|41=X|102=1
> 35=D|11=Y|38=50|44=99.50
< 35=8|11=Y|37={O}|150=8|39=0|103=6|38=100|14=0|151=100|58=ClOrdID(11) was used before
""",
    "an order with the name of a cancel of no order": """
> 35=F|11=Y|41=X
< 35=9|11=Y|41=X|37=NONE|39=8|434=1|102=1
> 35=D|11=Y|38=50|44=99.50
< 35=8|11=Y|37=NONE|150=8|39=8|103=6|38=50|14=0|151=0|58=ClOrdID(11) was used before
""",
    "a cancel and a replace with the name of another order": RESTING
    + """
> 35=D|11=Y|38=50|44=99.50
< 35=8|11=Y|150=0
> 35=F|11=Y|41=X
< 35=9|11=Y|41=X|37={O}|39=0|434=1|102=2|58=ClOrdID(11) was used before
> 35=G|11=Y|41=X|1=acc|38=50|44=99.50
< 35=9|11=Y|41=X|37={O}|39=0|434=2|102=2|58=ClOrdID(11) was used before
""",
    "an order with the name of a rejected one": """
> 35=D|11=X|38=0|40=1
< 35=8|11=X|37=?O|150=8|39=8|103=0
> 35=D|11=X|38=10|40=1
< 35=8|11=X|37={O}|150=8|39=8|103=6|38=0|14=0|151=0
""",
    "a type of message that is not served": """
> 35=Q|37=o|17=e|127=D|55={s}|54=1
< 35=j|372=Q|380=3
> 35=c|320=q|321=1
< 35=j|372=c|380=3
""",
    "text that is not ASCII": """
> 35=D|11=X|1=é|38=10|40=1
< 35=j|372=D|380=0
""",
}

# The session refuses what FIX 4.2 has no message for, and goes on.
MALFORMED: dict[str, str] = {
    "no ClOrdID": "> 35=D|11=|38=10|40=1\n< 35=3|371=11|372=D|373=1",
    "no Symbol": "> 35=D|11=X|55=|38=10|40=1\n< 35=3|371=55|372=D|373=1",
    "no Side": "> 35=D|11=X|54=|38=10|40=1\n< 35=3|371=54|372=D|373=1",
    "no OrdType": "> 35=D|11=X|40=|38=10\n< 35=3|371=40|372=D|373=1",
    "no HandlInst": "> 35=D|11=X|21=|38=10|40=1\n< 35=3|371=21|372=D|373=1",
    "no TransactTime": "> 35=D|11=X|60=|38=10|40=1\n< 35=3|371=60|372=D|373=1",
    "no OrigClOrdID in a cancel": "> 35=F|11=Y\n< 35=3|371=41|372=F|373=1",
    "no OrigClOrdID in a replace": "> 35=G|11=Y|38=10|44=99\n< 35=3|371=41|372=G|373=1",
    "no ClOrdID in a status request": "> 35=H|11=\n< 35=3|371=11|372=H|373=1",
    "no kind of subscription": "> 35=e\n< 35=3|371=263|372=e|373=1",
    "Side of no kind": "> 35=D|11=X|54=Z|38=10|40=1\n< 35=3|371=54|372=D|373=5",
    "OrdType of no kind": "> 35=D|11=X|40=Z|38=10\n< 35=3|371=40|372=D|373=5",
    "TimeInForce of no kind": "> 35=D|11=X|38=10|40=1|59=8\n< 35=3|371=59|372=D|373=5",
    "kind of subscription of no kind": "> 35=e|263=7\n< 35=3|371=263|372=e|373=5",
    "quantity that is none": "> 35=D|11=X|38=ten|40=1\n< 35=3|371=38|372=D|373=6",
    "quantity with an exponent": "> 35=D|11=X|38=1e9|40=1\n< 35=3|371=38|372=D|373=6",
    "price that is none": "> 35=D|11=X|38=10|44=nan\n< 35=3|371=44|372=D|373=6",
    "price with an exponent": "> 35=D|11=X|38=10|44=1e2\n< 35=3|371=44|372=D|373=6",
    "price with a sign": "> 35=D|11=X|38=10|44=+100\n< 35=3|371=44|372=D|373=6",
    "time that is none": "> 35=D|11=X|38=10|40=1|60=now\n< 35=3|371=60|372=D|373=6",
    "date that is none": "> 35=D|11=X|38=10|44=99|59=6|432=20261332\n< 35=3|371=432|372=D|373=6",
    "tag that is not an order's": "> 35=D|11=X|38=10|40=1|150=0\n< 35=3|371=150|372=D|373=2",
    "tag that FIX 4.2 does not have": "> 35=D|11=X|38=10|40=1|4999=1\n< 35=3|371=4999|372=D|373=3",
    "tags that are free": "> 35=D|11=X|38=10|44=99|5999=1|9999=x\n< 35=8|11=X|150=0|39=0",
    "type of no kind": "> 35=ZZ|11=X\n< 35=3|372=ZZ|373=11",
}

STATES: dict[str, str] = {
    "a symbol now": """
> 35=e|263=0
< 35=f|324=Q|55={s}|336=DAY|326=17|31=100.00
""",
    "a symbol, and its changes": """
> 35=e|263=1
< 35=f|324=Q|55={s}|326=17
op halt symbol={s}
< 35=f|324=Q|55={s}|326=2
op resume symbol={s}
< 35=f|324=Q|55={s}|326=17
> 35=e|324=R|263=2
op halt symbol={s}
op resume symbol={s}
""",
    "the last price": DONE
    + """
> 35=e|263=0
< 35=f|324=Q|55={s}|326=17|31=100.01
""",
    "an unknown symbol": """
> 35=e|55=NONE|263=1
< 35=j|372=e|380=2
""",
    "the market now": """
> 35=g|263=0
< 35=h|335=Q|336=DAY|325=N|340=2
""",
}

ROWS: dict[str, str] = {
    **{f"trading: {name}": row for name, row in TRADING.items()},
    **{f"status: {name}": row for name, row in STATUS.items()},
    **{f"repeated: {name}": row for name, row in REPEATED.items()},
    **{
        f"bad order: {name}": f"> 35=D|11=X|{fields}\n"
        f"< 35=8|11=X|150=8|39=8|20=0|103={code}|14=0|151=0|32=0|31=0.00|6=0.00|58={text}"
        for name, (fields, code, text) in BAD_ORDERS.items()
    },
    **{
        f"bad {name}": f"{RESTING}> {fields}\n"
        f"< 35=9|{fields.split('|')[1]}|41=X|37={{O}}|39=0|434={1 if '35=F' in fields else 2}|102={code}|58={text}\n"
        "> 35=H|11=X\n< 35=8|11=X|20=3|39=0|38=100|44=99.50|14=0|151=100"
        for name, (fields, code, text) in BAD_CHANGES.items()
    },
    **{f"refused: {name}": row for name, row in REFUSED.items()},
    **{f"malformed: {name}": row for name, row in MALFORMED.items()},
    **{f"state: {name}": row for name, row in STATES.items()},
}

TODAY = calendar.trade_date(time.time_ns())  # of the venue, too
LATER_DAY = TODAY + timedelta(days=10)

# All go through closed, pre-open, open, pre-close, closed, pre-open and open together; nobody shows liquidity.
HOURS: dict[str, str] = {
    "closed": """
> 35=D|11=X|38=100|44=99.50
< 35=8|11=X|150=8|39=8|103=2|14=0|151=0|58=the market is closed
phase PRE_OPEN
> 35=D|11=Y|38=100|44=99.50|59=1
< 35=8|11=Y|37=?O|150=0|39=0|14=0|151=100
phase OPEN
phase PRE_CLOSE
phase CLOSED
< 35=8|11=Y|150=3|39=3|20=0|14=0|151=100
> 35=H|11=Y
< 35=8|11=Y|17=0|20=3|150=3|39=3|14=0|151=100
> 35=G|11=Z|41=Y|38=200|44=99.50|59=1
< 35=9|11=Z|41=Y|37={O}|39=3|434=2|102=2|58=the market is closed: an order can be cancelled, not replaced
> 35=F|11=V|41=Y
< 35=8|11=V|41=Y|150=4|39=4|14=0|151=0
""",
    "orders may be changed before the opening": """
phase PRE_OPEN
> 35=D|11=X|38=100|44=99.50
< 35=8|11=X|150=0|39=0
> 35=G|11=Y|41=X|38=200|44=101.00
< 35=8|11=Y|41=X|150=5|39=5|38=200|44=101.00|14=0|151=200
> 35=H|11=Y
< 35=8|11=Y|17=0|20=3|150=5|39=5|151=200
> 35=F|11=Z|41=Y
< 35=8|11=Z|41=Y|150=4|39=4|151=0
""",
    "opening auction: one price for all, and an order for the opening expires after it": """
phase PRE_OPEN
B> 35=D|11=1|38=60|44=99.00
B< 35=8|11=1|150=0
> 35=D|11=X|38=100|44=101.00|59=2
< 35=8|11=X|150=0|39=0|59=2|14=0|151=100
> 35=D|11=Y|38=100|44=98.00|59=2
< 35=8|11=Y|150=0|39=0|59=2|14=0|151=100
phase OPEN
< 35=8|11=X|150=1|39=1|14=60|151=40|32=60|31=101.00
< 35=8|11=X|150=C|39=C|14=60|151=0|32=0
< 35=8|11=Y|150=C|39=C|14=0|151=0|32=0
B< 35=8|11=1|150=2|14=60|32=60|31=101.00
""",
    "opening auction: market orders trade first, what is left of them is cancelled, of limit orders rests": """
phase PRE_OPEN
> 35=D|11=X|38=50|44=100.00
< 35=8|11=X|150=0
> 35=D|11=Y|38=100|40=1
< 35=8|11=Y|150=0|39=0|40=1|151=100
B> 35=D|11=1|38=60|44=99.50
B< 35=8|11=1|150=0
phase OPEN
< 35=8|11=Y|150=1|39=1|14=60|151=40|32=60|31=100.00
< 35=8|11=Y|150=4|39=4|14=60|151=0
B> 35=D|11=2|38=50|44=100.00|59=3
< 35=8|11=X|150=2|39=2|14=50|32=50|31=100.00
""",
    "a call takes immediate orders and cancels them": """
phase PRE_OPEN
> 35=D|11=X|38=100|44=101.00|59=3
< 35=8|11=X|150=0|39=0|151=100
< 35=8|11=X|150=4|39=4|14=0|151=0
> 35=D|11=Y|38=100|44=101.00|59=4
< 35=8|11=Y|150=0|39=0|151=100
< 35=8|11=Y|150=4|39=4|14=0|151=0
""",
    "a stop order is triggered by the opening auction": """
phase PRE_OPEN
> 35=D|11=X|38=10|40=3|99=100.50
< 35=8|11=X|150=0|39=0
> 35=D|11=Y|38=50|44=101.00
< 35=8|11=Y|150=0|39=0
B> 35=D|11=1|38=60|44=101.00
B< 35=8|11=1|150=0
phase OPEN
< 35=8|11=Y|150=2|39=2|14=50|32=50|31=101.00
< 35=8|11=X|150=2|39=2|14=10|32=10|31=101.00
""",
    "a symbol halted over the opening trades when it is resumed, at one price": """
phase PRE_OPEN
> 35=D|11=X|38=50|44=100.50
< 35=8|11=X|150=0|39=0
B> 35=D|11=1|38=50|44=99.50
B< 35=8|11=1|150=0
op halt symbol={s}
> 35=D|11=Y|38=50|44=100.50
< 35=8|11=Y|150=8|39=8|103=2|14=0|151=0|58=trading in this symbol is halted
phase OPEN
> 35=H|11=X
< 35=8|11=X|17=0|20=3|150=0|39=0|14=0|151=50
op resume symbol={s}
< 35=8|11=X|150=2|39=2|14=50|151=0|32=50|31=100.00
""",
    "closing auction, and day orders expire": """
phase PRE_OPEN
phase OPEN
phase PRE_CLOSE
> 35=D|11=X|38=50|44=100.00
< 35=8|11=X|150=0|39=0
B> 35=D|11=1|38=30|44=100.00
B< 35=8|11=1|150=0
> 35=D|11=Y|38=50|44=99.00|59=2
< 35=8|11=Y|150=8|39=8|103=4|14=0|151=0|58=orders for the opening (OPG) are taken before it only
> 35=G|11=Z|41=X|38=60|44=100.00
< 35=8|11=Z|41=X|150=5|39=5|38=60|151=60
phase CLOSED
< 35=8|11=Z|150=1|39=1|14=30|151=30|32=30|31=100.00
< 35=8|11=Z|150=C|39=C|14=30|151=0|32=0
> 35=H|11=Z
< 35=8|11=Z|17=0|20=3|150=C|39=C|14=30|151=0
> 35=F|11=V|41=Z
< 35=9|11=V|41=Z|39=C|434=1|102=0
> 35=G|11=W|41=Z|38=90|44=100.00
< 35=9|11=W|41=Z|39=C|434=2|102=0
""",
    "good till date": f"""
phase PRE_OPEN
> 35=D|11=X|38=50|44=99.00|59=6|432={TODAY:%Y%m%d}
< 35=8|11=X|150=0|39=0|59=6|432={TODAY:%Y%m%d}|151=50
> 35=D|11=Y|38=50|44=99.00|59=6|432={LATER_DAY:%Y%m%d}
< 35=8|11=Y|150=0|39=0|59=6|432={LATER_DAY:%Y%m%d}|151=50
phase OPEN
> 35=D|11=Z|38=50|44=99.00|59=6|126={{in2}}
< 35=8|11=Z|150=0|39=0|59=6|151=50
< 35=8|11=Z|150=C|39=C|14=0|151=0|32=0
> 35=H|11=Z
< 35=8|11=Z|17=0|20=3|150=C|39=C|14=0|151=0
phase PRE_CLOSE
phase CLOSED
< 35=8|11=X|150=C|39=C|14=0|151=0
< 35=8|11=Y|150=3|39=3|14=0|151=50
phase PRE_OPEN
< 35=8|11=Y|150=D|39=0|378=1|14=0|151=50|424=50|425=0|426=0.00
phase OPEN
> 35=H|11=Y
< 35=8|11=Y|17=0|20=3|150=0|39=0|14=0|151=50|424=50|425=0|426=0.00
""",
    "a lasting order keeps its place overnight, and is not marked twice": """
phase PRE_OPEN
phase OPEN
> 35=D|11=X|38=10|44=100.00|59=1
< 35=8|11=X|37=?O|150=0|39=0
> 35=D|11=Y|38=10|44=100.00|59=1
< 35=8|11=Y|37=?P|150=0|39=0
op mark order_id={P} what=3
< 35=8|11=Y|150=3|39=3|14=0|151=10
B> 35=D|11=1|38=10|44=100.00|59=1
< 35=8|11=X|150=2|39=2|14=10|32=10|31=100.00
phase PRE_CLOSE
phase CLOSED
phase PRE_OPEN
< 35=8|11=Y|150=D|39=0|378=1|14=0|151=10|424=10|425=0|426=0.00
phase OPEN
B> 35=D|11=2|38=10|44=100.00|59=3
< 35=8|11=Y|150=2|39=2|14=10|32=10|31=100.00|424=10|425=10|426=100.00
""",
    "the phases are told to who wants to hear of them": """
> 35=g|263=0
< 35=h|335=Q|336=DAY|325=N|340=3
> 35=g|263=1
< 35=h|335=Q|336=DAY|325=N|340=3
phase PRE_OPEN
< 35=h|335=Q|336=DAY|325=Y|340=4
phase OPEN
< 35=h|335=Q|336=DAY|325=Y|340=2
phase PRE_CLOSE
< 35=h|335=Q|336=DAY|325=Y|340=5
phase CLOSED
< 35=h|335=Q|336=DAY|325=Y|340=3
> 35=g|335=R|263=2
phase PRE_OPEN
phase OPEN
""",
}

# name: (what comes after the order X, which rests; what is answered)
SENT_AGAIN: dict[str, tuple[str, str]] = {
    "an order that is known": ("35=D|11=X|21=1|54=1|38=100|40=2|44=99.50", "11=X|41=|20=3|17=0|39=0|14=0|151=100"),
    "an order that is not": ("35=D|11=Y|21=1|54=1|38=100|40=2|44=99.50", "11=Y|41=|20=0|150=0|39=0|14=0|151=100"),
    "a cancel that is known": ("35=F|11=C|41=Z|54=1", "11=C|41=|20=3|17=0|39=4|14=0|151=0"),
    "a cancel that is not": ("35=F|11=Y|41=X|54=1", "11=Y|41=X|20=0|150=4|39=4|14=0|151=0"),
    "a replace that is known": ("35=G|11=R|41=V|21=1|54=1|38=200|40=2|44=99.50", "11=R|41=|20=3|39=5|38=200|151=200"),
    "a replace that is not": ("35=G|11=Y|41=X|21=1|54=1|38=200|40=2|44=99.50", "11=Y|41=X|20=0|150=5|39=5|38=200"),
}
BEFORE = (
    "35=D|11=X|21=1|54=1|38=100|40=2|44=99.50",
    "35=D|11=Z|21=1|54=1|38=100|40=2|44=99.50",
    "35=F|11=C|41=Z|54=1",
    "35=D|11=V|21=1|54=1|38=100|40=2|44=99.50",
    "35=G|11=R|41=V|21=1|54=1|38=200|40=2|44=99.50",
)


class Repeater:
    """The counterparty RAW, which begins with number 1 each time; `number` makes its ClOrdIDs its own."""

    def __init__(self, port: int, number: int) -> None:
        self._client = RawFixClient(port, "RAW", "HOUSE")
        self._number = number
        self._next = 2
        self._client.send(1, "A", "98=0|108=30|141=Y")
        self._client.receive("35=A")

    def own(self, fields: str) -> str:
        return re.sub(r"\b((?:11|41)=\w+)", rf"\1.{self._number}", fields)

    def send(self, fields: str, header: str) -> None:
        now = f"{datetime.now(UTC):%Y%m%d-%H:%M:%S}"
        kind, _, rest = self.own(fields).partition("|")
        body = f"{header.format(now=now)}{rest}|55=S{len(ROWS)}|60={now}"
        self._client.send(self._next, kind.removeprefix("35="), body)
        self._next += 1

    def receive(self) -> str:
        return self._client.receive("35=8")

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with on_stage("HOUSE", tmp_path_factory.mktemp("house"), HOUSE, len(ROWS) + 1) as stage:
        yield stage


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What went wrong in each row."""
    with on_stage("HOURS", tmp_path_factory.mktemp("hours"), "levels=0", len(HOURS), "CLOSED") as stage:
        yield stage.play(scripts(HOURS))


@pytest.mark.parametrize("name", ROWS)
def test_the_answers_are_those_of_the_table(stage: Stage, name: str) -> None:
    failure = stage.play([scripts(ROWS)[list(ROWS).index(name)]])[name]
    assert not failure, failure


@pytest.mark.parametrize("name", HOURS)
def test_the_answers_through_the_day_are_those_of_the_table(hours: dict[str, str], name: str) -> None:
    assert not hours[name], hours[name]


@pytest.mark.parametrize("name", SENT_AGAIN)
def test_a_request_that_comes_again_with_poss_dup_is_not_done_again(stage: Stage, name: str) -> None:
    request, answer = SENT_AGAIN[name]
    number = list(SENT_AGAIN).index(name)
    raw = Repeater(stage.venue.fix_port, number)
    for each in BEFORE:
        raw.send(each, "")
        raw.receive()
    raw.send(request, "43=Y|122={now}|")
    got = raw.receive()
    assert has(got, raw.own(answer)), got
    raw.close()


def test_the_journal_says_what_the_report_said(stage: Stage) -> None:
    trace = "00-ab-cd-01"
    lines = [
        f"> 35=D|11=J|1=acc|5500={trace}|38=10|40=1",
        "< 35=8|11=J|1=acc|150=0",
        "< 35=8|11=J|1=acc|150=2|32=10|31=100.01|14=10|151=0",
    ]
    failure = stage.play([Script("journal", len(ROWS), lines)])["journal"]
    assert not failure, failure
    fill = stage.own.app[-1]
    record = next(each for each in reversed(stage.venue.records()) if "in" in each)
    row = record["out"][-1]
    assert record["in"]["traceparent"] == trace
    assert record["session"] == row["comp_id"] == OWN
    assert (field(fill, 5501), field(fill, 5502)) == (str(record["t"]), str(record["decided"]))
    assert (field(fill, 17), field(fill, 37), field(fill, 1)) == (row["exec_id"], row["order_id"], row["account"])
    assert (row["last_shares"], row["last_px"], row["cum_qty"], row["leaves_qty"]) == (10, 1_000_100, 10, 0)
    assert field(fill, 75) == row["trade_date"].replace("-", "")


def test_a_resting_order_that_fills_while_its_owner_is_away_is_reported_when_it_returns(tmp_path: Path) -> None:
    order = "35=D|11={0}|21=1|55=S|54={1}|38=10|40=2|44=100.00|60=20261123-15:00:00"
    settings = 'name="AWAY"\nlevels=0\nsession="manual"\n[[symbols]]\nsymbol="S"\nprice="100.00"\n'
    with VenueProcess(tmp_path, settings) as venue, FixClient(venue.fix_port, OWN, tmp_path, "AWAY") as own:
        ask(tmp_path / "data", {"act": "phase", "name": "OPEN"})
        with FixClient(venue.fix_port, OTHER, tmp_path, "AWAY") as other:
            other.send(order.format("X", 1))
            other.receive(1)
        own.send(order.format("Y", 2))
        own.receive(2)
        with FixClient(venue.fix_port, OTHER, tmp_path, "AWAY") as other:
            (fill,) = other.receive(1)
    assert has(fill, "11=X|150=2|39=2|32=10|31=100.00|43=Y")
