"""The texts that the benchmarks look for."""

from __future__ import annotations

from random import Random


def secrets(count: int = 1000) -> list[tuple[str, str]]:
    """Return texts to look for, as (id, text); the first ten are in the captures."""
    random = Random(7)  # noqa: S311 - the same each time
    words = ["".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=9)) for _ in range(count)]
    return [(f"s{index}", f"{word} No. {index}!") for index, word in enumerate(words)]
