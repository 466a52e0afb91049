"""The command: `python -m powsim_kernels.check [--out FILE.json] [--quick] [--device N]`.

Needs NumPy and CuPy, and nvidia-ml-py for energy; under ten minutes on a GPU. Exit status: 0 where every answer was
right, 1 where one was wrong or a section failed (the file says which), 2 where nothing could be measured: then no file
is written.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from powsim_kernels.backend import BackendUnavailable, resolve
from powsim_kernels.check.answers import all_right, answers
from powsim_kernels.check.measure import FULL, QUICK, SECTIONS
from powsim_kernels.folders import write_json
from powsim_kernels.sha256.contract import OFFERED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m powsim_kernels.check",
        description="Test and time every kernel on a GPU; write one JSON file.",
    )
    parser.add_argument("--out", type=Path, default=Path("powsim-cuda-check.json"), help="the file to write")
    parser.add_argument("--quick", action="store_true", help="a few seconds: does it run, not how fast is it")
    parser.add_argument("--device", type=int, default=0, help="which GPU, by CUDA's number")
    given = parser.parse_args(arguments)
    if not given.out.resolve().parent.is_dir():
        print(f"{given.out} cannot be written: make the folder {given.out.resolve().parent} first", file=sys.stderr)
        return 2
    try:
        resolve("cuda", OFFERED)
        cuda = importlib.import_module("powsim_kernels.sha256.cuda")
        (device,) = cuda.twin(f"cuda:{given.device}").devices
    except BackendUnavailable as error:
        print(error, file=sys.stderr)
        return 2
    found: dict[str, object] = {}
    for name, section in SECTIONS.items():
        print(f"{name} ...", end=" ", flush=True)
        began = time.perf_counter()
        try:
            found[name] = section(device, QUICK if given.quick else FULL)
        except BackendUnavailable as error:
            found[name] = {"error": str(error)}  # what else was measured is still worth keeping
        print(f"{time.perf_counter() - began:.1f} s", flush=True)
        write_json(given.out, {"quick": given.quick, "ended": False, **found})  # what is stopped has not run in vain
    found["answers"] = told = answers(found)
    right = all_right(found)
    write_json(given.out, {"quick": given.quick, "ended": True, "all_right": right, **found})
    for question, answer in told.items():
        print(f"{question}: {answer}")
    for name, values in found.items():
        if isinstance(values, dict) and "error" in values:
            print(f"{name} FAILED: {values['error']}", file=sys.stderr)
    print(f"wrote {given.out}")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
