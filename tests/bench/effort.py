"""How much a run does: enough for figures, or just enough to see that everything still works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """The numbers of one run; ``rounds`` and ``calls`` are those of the comparison of contenders."""

    callers: tuple[int, ...]
    rounds: int
    calls: int
    starts: int
    listings: int
    memory_kinds: tuple[str, ...]
    memory_users: int
    memory_first: int
    memory_calls: int
    growth_sizes: tuple[int, ...]
    growth_rounds: int
    growth_calls: int
    renewal_ways: tuple[str, ...]
    renewal_callers: int
    renewal_calls: int
    renewal_rounds: int
    profiled_calls: int


FULL = Effort(
    callers=(1, 8, 32),
    rounds=10,
    calls=64,
    starts=5,
    listings=5,
    memory_kinds=("json", "legacy"),
    memory_users=200,
    memory_first=100,
    memory_calls=10_000,
    growth_sizes=(10, 100, 1000),
    growth_rounds=15,
    growth_calls=60,
    renewal_ways=("threads", "tasks"),
    renewal_callers=100,
    renewal_calls=5,
    renewal_rounds=3,
    profiled_calls=400,
)
QUICK = Effort(
    callers=(2,),
    rounds=1,
    calls=4,
    starts=1,
    listings=1,
    memory_kinds=("json",),
    memory_users=5,
    memory_first=10,
    memory_calls=20,
    growth_sizes=(2,),
    growth_rounds=1,
    growth_calls=4,
    renewal_ways=("threads",),
    renewal_callers=10,
    renewal_calls=2,
    renewal_rounds=1,
    profiled_calls=10,
)
