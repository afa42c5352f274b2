"""What a measurement found: tables of figures, and goals with what was reached; printed, or written as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Goal:
    """One goal and what was reached: at most ``most``, at least ``least``."""

    what: str
    value: float
    most: float | None = None
    least: float | None = None

    @property
    def reached(self) -> bool:
        """Whether the value is within the goal, as exactly as it is printed."""
        value = round(self.value, 2)
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)

    @property
    def wanted(self) -> str:
        """Return the goal in signs."""
        if self.most == self.least:
            return f"{self.most:g}"
        return f"≤ {self.most:g}" if self.most is not None else f"≥ {self.least:g}"


@dataclass(frozen=True)
class Table:
    """Figures by row; the first column names it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def lines(self) -> list[str]:
        """Return the table as text."""
        cells = [list(self.columns), *([_shown(value) for value in row] for row in self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.columns))]
        lines = ["", self.title]
        for row in cells:
            name, *figures = (cell for cell in row)
            aligned = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *aligned]).rstrip())
        return lines


Finding = Table | Goal
"""What a measurement yields, as soon as it knows."""


def as_json(found: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings of one measurement as JSON."""
    return {
        "tables": [asdict(item) for item in found if isinstance(item, Table)],
        "goals": [{**asdict(item), "reached": item.reached} for item in found if isinstance(item, Goal)],
    }


def goal_lines(goals: Sequence[Goal]) -> list[str]:
    """Return the table of the goals as text."""
    rows = [(goal.what, goal.wanted, goal.value, "reached" if goal.reached else "not reached") for goal in goals]
    return Table("Goals", ("", "goal", "value", ""), rows).lines()


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"
