"""Settings of the OMS."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    partition: int = 0
    collar_basis_points: int = 500  # how far a market order may trade from its reference price
    quote_age_seconds_max: float = 3.0
    send_within_seconds: int = 60  # an order that could not be sent by then is not sent at all
    orphan_hold_seconds: float = 10.0  # a hold without an order is released after this
    sweep_seconds: float = 5.0
    batch_max: int = 500
    queue_max: int = 10_000
    command_spacing_seconds: float = 0.005
