"""What this machine is: processor, GPUs, versions; and a name for it that a scenario can hold."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from powsim import __version__
from powsim.bench.children import output_of
from powsim_kernels.threads import thread_count

LONGEST = 40
NOISE = r"\((r|tm|c)\)|\b(cpu|pthread|processor|graphics|nvidia|geforce)\b|\b\w+-core\b|@.*|\bwith\b.*"
"""What model names say beside the model."""


KIND_WORDS = (
    ("server-cpu", r"epyc|xeon|neoverse|graviton|ampere altra|kvm"),
    ("laptop", r"core.*\d{4}(h|hq|hk|hx|u|g\d|p|y)\b|ryzen.*\d{4}(h|hs|hx|u)\b|laptop(?! gpu)"),
    ("desktop", r"ryzen|core\(tm\)|core i\d|\bcpu\b"),
    (
        "gpu-consumer",
        r"geforce|\brtx\b|\bgtx\b|radeon (?!instinct)|\brx\b|\barc\b|quadro|titan|iris|graphics|apple m\d",
    ),
    ("gpu-datacentre", r"tesla|grid|instinct|\bmi\d+x?\b|\b[abhlptv]\d{1,3}[gls]?\b|\bgh200\b|data ?cent"),
    ("gpu-consumer", r"nvidia|\bgfx\d"),
)
"""What model names of a kind have in them; the first that fits counts."""


@dataclass(frozen=True)
class Machine:
    """Where the numbers come from."""

    cpu: str
    threads: int
    gpus: tuple[str, ...]  # model and driver, in the order of "cuda:0", "cuda:1", ...
    system: str
    versions: str

    @property
    def name(self) -> str:
        """Return a name for it that devices may have."""
        return slug(self.cpu) or slug(socket.gethostname()) or "my-machine"


def describe(threads: int | None = None) -> Machine:
    """Return this machine. threads: how many of it are used [all]."""
    parts = [f"powsim {__version__}", f"Python {platform.python_version()}"]
    for package in ("numpy", "numba", "cupy-cuda12x", "cupy-cuda13x"):
        try:
            parts.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    system = f"{platform.system()} {platform.machine()}"
    return Machine(cpu_model(), thread_count(threads), gpu_models(), system, ", ".join(parts))


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return what the processor calls itself, or what the platform calls it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        found = None
    return " ".join((found[1] if found else platform.processor() or platform.machine()).split())


def gpu_models(program: str = "nvidia-smi") -> tuple[str, ...]:
    """Return the models and drivers of NVIDIA GPUs, in their order; none where the driver's tool is not there."""
    path = shutil.which(program)
    if path is None:
        return ()
    command = [path, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        printed = output_of(command, 10.0)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()
    return tuple(line.replace(", ", ", driver ", 1) for line in printed.splitlines() if line.strip())


def slug(text: str) -> str:
    """Return a model's name as a device may be called: small letters, digits and hyphens, or nothing."""
    bare = re.sub(NOISE, " ", text.lower())
    words = re.sub(r"[^a-z0-9]+", "-", bare).strip("-")
    return words[:LONGEST].strip("-")


def kind_of(model: str) -> str:
    """Return the kind of device that a model's name stands for, as the catalogue has them."""
    text = model.lower()
    return next((kind for kind, pattern in KIND_WORDS if re.search(pattern, text)), "desktop")
