"""One figure beside another, and how a list of them is shown."""

from __future__ import annotations

from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One figure beside another: medians in `unit` over `runs` runs; aim is what we set out for."""

    what: str
    ours: float
    beside: str
    theirs: float | None
    unit: str
    runs: int
    aim: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over theirs; below 1 is better."""
        return self.ours / self.theirs if self.theirs else None

    def shown(self, value: float | None) -> str:
        """Return a value with its unit."""
        if value is None:
            return "–"
        return f"{value:.0f} {self.unit}" if value >= 100 else f"{value:.2f} {self.unit}"  # noqa: PLR2004 - three digits


def bench_table(rows: list[Row]) -> Table:
    """Return benchmark rows: ours, the peer or floor of the same run, and the ratio."""
    table = Table("what", "imlab", "beside", "its figure", "ratio", "aim", "runs")
    for row in rows:
        table.add_row(
            escape(row.what), row.shown(row.ours), escape(row.beside), row.shown(row.theirs),
            "–" if row.ratio is None else f"{row.ratio:.2f}", escape(row.aim), str(row.runs),
        )  # fmt: skip
    return table
