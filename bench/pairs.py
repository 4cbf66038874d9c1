"""Interleaved measurement: the variants take turns in every round, so that noise meets them all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def measured(variants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds that each variant took in each round; every round starts with another variant."""
    names = list(variants)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            began = time.perf_counter()
            variants[name]()
            taken[name].append(time.perf_counter() - began)
    return taken


def report(taken: Mapping[str, list[float]], base: str) -> None:
    """Print each variant's figures, and its median ratio to the base in the same round."""
    for name, times in taken.items():
        ratios = [one / other for one, other in zip(times, taken[base], strict=True)]
        low, middle, high = (1000 * value for value in (min(times), statistics.median(times), max(times)))
        print(
            f"  {name:32} min {low:8.1f}  median {middle:8.1f}  max {high:8.1f} ms"
            f"  ratio to {base}: {statistics.median(ratios):.2f}"
        )
