"""Settings of the ledger."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    partition: int = 0
    settlement_cycle_days: int = 1  # T+1
    batch_max: int = 500
    queue_max: int = 10_000
    command_spacing_seconds: float = 0.005
