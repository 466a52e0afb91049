"""The libraries that find candidates: torch (matmul and topk, on its devices) and scikit-learn (fused, on CPUs)."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim_kernels import BackendUnavailable


def is_tensor(values: Any) -> bool:
    """Return whether it is a torch tensor, without loading torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def as_tensor(votes: NDArray[Any], like: Any) -> Any:
    """Return an array as a tensor on the device of another."""
    import torch

    return torch.from_numpy(votes).to(like.device)


def check_device(device: str) -> None:
    """Raise ValueError for what is no device, BackendUnavailable for one that is not there or has no float64."""
    import torch

    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is no torch device: {str(error).splitlines()[0]}") from None
    try:
        torch.zeros(1, dtype=torch.float64, device=place).cpu()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BackendUnavailable(f"torch cannot compute on device {device!r} ({reason}): leave device out") from None


def prepare(search: str, points: NDArray[np.float64], device: str | None) -> Any:
    """Return a piece of the points [m, D] as the library wants it."""
    if search == "torch":
        import torch

        there = torch.from_numpy(points).to(device or "cpu")
        return there, (there * there).sum(dim=1)
    if search == "scikit-learn":
        from sklearn.neighbors import NearestNeighbors

        return NearestNeighbors(algorithm="brute", metric="sqeuclidean").fit(points)
    return None


def candidates(
    search: str, part: Any, queries: NDArray[np.float64], wanted: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the points that seem nearest, the nearest first, and how far they seem: int64 and float64 [n, wanted]."""
    if search == "scikit-learn":
        seen, index = part.kneighbors(queries, n_neighbors=wanted)
        return index.astype(np.int64, copy=False), seen
    import torch

    points, squares = part
    with torch.no_grad():
        asked = torch.from_numpy(queries).to(points.device)
        seen = torch.addmm(squares, asked, points.T, alpha=-2.0)
        nearest, found = torch.topk(seen, wanted, dim=1, largest=False)
        nearest += (asked * asked).sum(dim=1, keepdim=True)
    return found.cpu().numpy(), nearest.cpu().numpy()
