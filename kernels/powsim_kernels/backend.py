"""What can run here: `reference` (plain Python), `cpu` (Numba, llvmlite), `cuda` (CuPy), and why something cannot."""

from __future__ import annotations

import importlib.util

BACKENDS = ("reference", "cpu", "cuda")


class BackendUnavailable(RuntimeError):
    """A backend that this machine, or this kernel, cannot run. The text names the missing piece and the cure."""


def why_not(backend: str) -> str | None:
    """Return None where `backend` can run on this machine, else the reason with its cure."""
    if backend == "reference":
        return None
    if backend == "cpu":
        missing = [name for name in ("numba", "llvmlite") if importlib.util.find_spec(name) is None]
        return f"{missing[0]} is not installed: run `pip install {missing[0]}`" if missing else None
    if backend == "cuda":
        if importlib.util.find_spec("cupy") is None:
            return "cupy is not installed: run `pip install 'powsim[cuda12]'` (CUDA 13: `powsim[cuda13]`)"
        try:
            import cupy

            # With no driver cupy imports silently and fails at the first call, so ask.
            found = cupy.is_available()
        except (ImportError, OSError, RuntimeError) as error:
            return f"cupy does not load ({error}): install it anew, or use backend='cpu'"
        if not found:
            return "no CUDA device or driver was found (`nvidia-smi` tells which): use backend='cpu'"
        return None
    raise ValueError(f"unknown backend {backend!r}: choose one of auto, {', '.join(BACKENDS)}")


def resolve(backend: str, offered: tuple[str, ...]) -> str:
    """Return the backend to run: `backend` itself if it can, or for "auto" the fastest compiled one that can.

    `offered` holds the twins that the calling kernel has, slowest first. The reference runs only where it is asked
    for: a silent fall-back would be a thousand times slower.
    Raises ValueError for an unknown name and BackendUnavailable for one that cannot run.
    """
    if backend == "auto":
        compiled = [name for name in reversed(offered) if name != "reference"] or ["cpu"]
        return next((name for name in compiled if why_not(name) is None and name in offered), None) or resolve(
            compiled[-1], offered
        )
    reason = why_not(backend)
    if reason is None and backend not in offered:
        reason = f"this kernel has no {backend} twin yet: use one of auto, {', '.join(offered)}"
    if reason is not None:
        raise BackendUnavailable(f"backend {backend!r} cannot run: {reason}")
    return backend
