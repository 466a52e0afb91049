"""What the attack lab must show on digits16, each figure beside its target: `python bench/lab_acceptance.py 0-5`.

The targets are the independent study's (six seeds; cost ratios within 0.12 of its means). Cost: eps of one answer,
25 teachers, sigma 1, delta 1e-5, classic conversion; ratios are to the standard user's mean over as many queries.
With --datafree also DataFree at 100,000 queries, which takes minutes a seed.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch

from powsim.bank.records import Recording
from powsim.lab.attacks import ATTACKS
from powsim.lab.lockstep import play
from powsim.lab.service import eps_of, open_service
from powsim.lab.study import checkpoints, size_of
from powsim.lab.tasks import load_task

TASK = "digits16"
RATIOS = {"copycat": 1.92, "noise": 2.02, "jacobian": 0.77, "worst-case": 0.63, "gap": 1.41, "entropy": 1.41}
WITHIN = 0.12
QUERIES, LABELS, LABEL_STEPS, DATAFREE = 1024, 2000, 700, 100_000


@dataclass(frozen=True)
class Figure:
    """A measured quantity and what its mean must be."""

    name: str
    least: float
    most: float = float("inf")

    def line(self, values: list[float]) -> str:
        """Return a row of the table: mean, range, each seed's value."""
        mean, met = np.mean(values), self.least <= np.mean(values) <= self.most
        target = f">= {self.least:.2f}" if self.most == float("inf") else f"{self.least:.2f}..{self.most:.2f}"
        each = " ".join(f"{value:.3f}" for value in values)
        return f"{self.name:<40}{mean:7.3f}  {target:<11} {'met' if met else 'MISSED':<7} {each}"


FIGURES = [
    Figure("victim accuracy", 0.98),
    Figure("ensemble accuracy", 0.95),
    *(Figure(f"cost ratio {name}", mean - WITHIN, mean + WITHIN) for name, mean in RATIOS.items()),
    Figure(f"standard theft, {QUERIES} queries", 0.96),
    Figure(f"copycat theft, {LABELS} labels, {LABEL_STEPS} steps", 0.90),
    Figure(f"datafree theft, {DATAFREE} queries", 0.75),
]


def measured(seed: int, datafree: bool) -> list[float]:
    """Return one seed's figures in the order of `FIGURES`, without DataFree's unless asked for."""
    task = load_task(TASK, seed)
    service = open_service(task, seed, "cpu")

    def played(names: list[str], queries: int, steps: int) -> dict[str, Recording]:
        kinds = {name: ATTACKS[name] for name in names}
        made = play(service, kinds, dict.fromkeys(names, queries), checkpoints(queries), steps=steps, seed=seed)
        return {one.attack: one for one in made}

    usual = played(["standard", *RATIOS], QUERIES, size_of(TASK).steps)

    def cost(one: Recording) -> float:
        return float(eps_of(task, one.votes).mean())

    standard = cost(usual["standard"])
    out = [service.victim.accuracy(task.test), service.teachers.accuracy(task.test)[1]]
    out += [cost(usual[name]) / standard for name in RATIOS]
    out += [usual["standard"].accuracy[-1], played(["copycat"], LABELS, LABEL_STEPS)["copycat"].accuracy[-1]]
    if datafree:
        out.append(played(["datafree"], DATAFREE, LABEL_STEPS)["datafree"].accuracy[-1])
    return [float(value) for value in out]


def seeds_of(text: str) -> list[int]:
    """Return the seeds of "0-5" or "0,3,7"."""
    first, dash, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if dash else [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seeds", type=seeds_of, nargs="?", default=list(range(6)), help="0-5, or 0,3,7 [0-5]")
    parser.add_argument("--datafree", action="store_true", help="DataFree at 100,000 queries too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    columns: list[list[float]] = []
    for seed in args.seeds:
        began = time.process_time()
        columns.append(measured(seed, args.datafree))
        print(f"seed {seed}: {time.process_time() - began:.0f} s of CPU", flush=True)
    print(f"{'figure':<40}{'mean':>7}  target              seeds {', '.join(map(str, args.seeds))}")
    for figure, values in zip(FIGURES, zip(*columns, strict=True), strict=False):
        print(figure.line(list(values)))


if __name__ == "__main__":
    main()
