"""Settings of the ledger."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    partition: int = 0
    settlement_cycle_days: int = 1  # T+1
    settlement_hour: int = 6  # of a settlement day in New York, from when on it settles
    reconcile_hour: int = 18  # of each day in New York, from when on it is reconciled
    batch_max: int = 1_000
    queue_max: int = 10_000
    command_spacing_seconds: float = 0.005
