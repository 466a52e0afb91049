"""The lab's service on a device beside its CPU: answers, votes and costs per second. `python bench/lab_device.py`.

Votes stay on the device: the cost kernel reads them there through DLPack. Equality first: the same votes but for near
ties, and costs that the CPU's kernel gives for the same votes to 1e-12.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from powsim.bank.costs import CONVERSION
from powsim.lab.neighbours import fit_neighbours
from powsim.lab.service import plan_of
from powsim.lab.tasks import load_task
from powsim.lab.teachers import fit_teachers
from powsim.lab.victim import Victim, fit_victim

REPEATS = 5


def median_s(work: Callable[[], Any], device: str) -> float:
    """Return the median time of REPEATS calls after a first."""
    walls = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        walls.append(time.perf_counter() - began)
    return float(np.median(walls[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="digits16", help="one of the lab's tasks [digits16]")
    parser.add_argument("--queries", type=int, default=200_000, help="on the device; the CPU answers a tenth")
    parser.add_argument("--devices", nargs="+", default=["cpu", "cuda"], choices=["cpu", "cuda"])
    args = parser.parse_args()
    task = load_task(args.task, 0)
    victim = fit_victim(task, 0, "cpu")
    kept: dict[str, Any] = {}
    for device in args.devices:
        count = args.queries if device == "cuda" else max(1, args.queries // 10)
        rows = np.random.default_rng(1).integers(0, len(task.users.x), count)
        x = torch.from_numpy(task.users.x[rows]).to(device)
        here = Victim({name: value.to(device) for name, value in victim.parameters.items()}, victim.classes, device)
        teachers, neighbours = fit_teachers(task, 0, device=device), fit_neighbours(task, here)
        plan = plan_of(task, device)
        votes = teachers.votes(x, tensor=True)
        eps = plan.eps(votes, task.delta, conversion=CONVERSION)[0]
        kept[device] = votes[: args.queries // 10].cpu().numpy()
        logits = here.logits(x)
        parts = {
            "victim's logits, copied to the host": lambda here=here, x=x: here.logits(x),
            "teachers' votes": lambda teachers=teachers, x=x: teachers.votes(x, tensor=True),
            "cost of the votes": lambda plan=plan, votes=votes: plan.eps(votes, task.delta, conversion=CONVERSION),
            "private neighbours' votes": lambda neighbours=neighbours, few=logits[: count // 20]: neighbours.of_logits(
                few
            ),
        }
        some = plan_of(task).eps(votes[:100].cpu().numpy(), task.delta, conversion=CONVERSION)[0]
        np.testing.assert_allclose((eps.get() if hasattr(eps, "get") else eps)[:100], some, rtol=1e-12)
        for name, work in parts.items():
            many = count // 20 if name.startswith("private") else count
            print(f"{device:<5} {name:<36} {many / median_s(work, device):12,.0f} queries/s", flush=True)
    if len(kept) == 2:
        same = (kept["cpu"] == kept["cuda"]).all(axis=1).mean()
        print(f"votes of cpu and cuda are the same for {same:.2%} of the queries")
        if same < 0.99:
            raise SystemExit("the device votes otherwise than the CPU")


if __name__ == "__main__":
    main()
