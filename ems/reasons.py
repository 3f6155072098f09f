"""Why the EMS itself does not send an order: the text of a NOT_SENT row, and of the refusal of a command."""

from typing import Final

NO_VENUE: Final = "no venue takes this symbol"
NOT_BUILT: Final = "the EMS cannot send this kind of request yet"
BAD_IDS: Final = "ids must be printable ASCII, and cl_ord_id at most 20 characters"
BAD_FIELD: Final = "the EMS cannot send this {field}"
TOO_LATE: Final = "send_by passed before the order could be sent"
NEVER_ARRIVED: Final = "the order never reached the venue, and send_by has passed"
REFUSED_BY_SESSION: Final = "the venue refused the message: {text}"
