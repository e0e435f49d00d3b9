"""The page of `compare`: one self-contained HTML file, no script needed to read it."""

from __future__ import annotations

from typing import Any

from experiments import page, plots


def render(comparison: dict[str, Any]) -> str:
    """Return the page for the answer of sidebyside.side_by_side."""
    return page.render(
        "compare.html.j2",
        [],
        filters={"short4": lambda number: f"{number:.4g}"},
        c=comparison,
        plots=[
            [plots.plot(measure) for measure in factor["measures"]]
            for factor in comparison["factors"]
        ],
        width=plots.WIDTH,
        height=plots.HEIGHT,
        left=plots.LEFT,
        right=plots.RIGHT,
    )
