"""The plan on NVIDIA GPUs: CUDA C++ (`read.cu`, `totals.cu`, `costs.cu`) compiled and launched through CuPy.

Votes on the device are read where they lie; votes on the host are copied there in pieces of bounded size, and results
come back to the host. Nothing else moves: totals, LNMax, screening, groups and running eps are summed on the device.
The versions of the kernels stand in their sources; `python -m powsim_kernels.check` measures them. A plan computes on
the device that was CuPy's current one when it was made.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import cupy
import numpy as np
from numpy.typing import DTypeLike, NDArray

from powsim_kernels.backend import BackendUnavailable
from powsim_kernels.cuda import named_faults
from powsim_kernels.pate import bounds, grid, sources, trial
from powsim_kernels.pate.rows import groups_of, on_device, readable

if TYPE_CHECKING:
    from powsim_kernels.pate.plan import PatePlan

State = dict[str, Any]
PIECE_BYTES = 1 << 26  # votes copied from the host at once
ROOM_BYTES = 1 << 27  # ln q, most votes and costs held on the device at once
MOST_ROWS = 1 << 26  # of one launch
MOMENTS_MOST = 1 << 28  # bytes; more groups than fit are priced row by row
ROWS_AT_ONCE = 1 << 20  # priced row by row
STRIP, WARPS = 16, 4  # as in costs.cu
NO_ROW = 2**64 - 1
NULL = np.uint64(0)


def _word(value: float) -> int:
    """Return a float64's bits."""
    return int(np.float64(value).view(np.uint64))


class Tools:
    """What a plan keeps on its device: tables, steps, cells, and its kernels."""

    def __init__(self, plan: PatePlan) -> None:
        self.plan, self.device = plan, int(cupy.cuda.runtime.getDevice())
        self.multiprocessors = int(cupy.cuda.runtime.getDeviceProperties(self.device)["multiProcessorCount"])
        self._kept: list[Any] = []  # the kernels know these by address
        self.given = self._describe()

    def _pointer(self, values: Any) -> int:
        array = cupy.asarray(np.ascontiguousarray(values))
        self._kept.append(array)
        return int(array.data.ptr)

    def _step(self, sigma: float) -> list[int]:
        """Return one step as `Step` of steps.cuh lays it out."""
        orders = self.plan.grid
        law = np.array([sigma, bounds.least_mu(sigma)])
        cross = cupy.empty(orders.size, np.float64)
        arguments = (cupy.asarray(orders), np.uint64(orders.size), cupy.asarray(law), np.uint64(self.plan.clip), cross)
        self.costs("crossings")((-(-orders.size // 128),), (128,), arguments)
        self.step = grid.step_with(orders, sigma, cross.get())
        low = np.array([self.step.cross[at : at + grid.RUN].min() for at in range(orders.size)])
        arrays = (self.step.k, 1.0 / self.step.k, self.step.ceiling, self.step.cross, low, self.step.even)
        reals = self.step.sigma, self.step.least, self.step.far
        return [*(_word(value) for value in reals), *(self._pointer(values) for values in arrays)]

    def _describe(self) -> Any:
        """Return the plan on the device, as `Plan` of steps.cuh lays it out."""
        plan, law = self.plan, self.plan.mechanism == "lnmax"
        threshold, sigma1 = plan.gate
        gate = self._step(math.sqrt(2.0) * sigma1) if plan.confident else [0] * 9
        answer = self._step(float(plan.sigma))
        tail, logs = trial.tails(sources.table_size(plan) - 1, float(plan.sigma), law)
        tops = [(most - threshold) / sigma1 for most in range(len(tail))] if plan.confident else []
        answered = np.exp([bounds.log_phi(x) for x in tops])
        cells = grid.cells_of(self.step, 1.0 if law else grid.reach(int(plan.num_voters), float(plan.sigma)))
        self.cells = len(cells.middle)
        self.stride = self.cells + len(answered)
        reals = threshold, sigma1, math.log1p(-1.0 / plan.num_classes), plan.num_voters
        tables = tail, logs, answered if len(answered) else np.zeros(1), cells.edges, cells.first.astype(np.int64)
        sizes = len(tail), self.cells, self.stride, plan.grid.size, plan.num_classes
        fields = [
            *(*answer, *gate, *(_word(float(value)) for value in reals)),
            *(self._pointer(values) for values in (*tables, cells.nodes, cells.basis)),
            *(_word(float(cells.most)), *sizes),
        ]
        return cupy.asarray(np.array(fields, np.uint64))

    def costs(self, name: str, stored: DTypeLike = np.float64) -> Any:
        """Return a kernel of costs.cu."""
        return _kernel("costs.cu", name, sources.pricing(self.plan, stored), self.device)

    def reader(self, dtype: DTypeLike) -> tuple[Any, int]:
        """Return the kernel that reads votes of a type, and its bytes of shared memory."""
        options, shared = sources.reading(self.plan, dtype)
        return _with_room(_kernel("read.cu", "read_votes", options, self.device), shared)

    def tally(self, dtype: DTypeLike, weighted: bool) -> tuple[Any, int]:
        """Return the kernel of totals by moments, and its bytes of shared memory."""
        options, shared = sources.totalling(self.plan, dtype, weighted, self.cells)
        return _with_room(_kernel("totals.cu", "tally", options, self.device), shared)

    def blocks(self, wanted: int) -> tuple[int]:
        """Return the grid of a kernel whose blocks stay: at most eight for each multiprocessor."""
        return (max(1, min(wanted, 8 * self.multiprocessors)),)


_lock = threading.Lock()


@cache
def _kernel(file: str, name: str, options: tuple[str, ...], device: int) -> Any:
    """Return a compiled kernel; CuPy keeps compiled code on disk."""
    found = cupy.RawModule(code=sources.source(file), options=options).get_function(name)
    _ = found.num_regs  # CuPy compiles when it is first asked
    return found


def _with_room(kernel: Any, shared: int) -> tuple[Any, int]:
    if shared > sources.SHARED_PLAIN:
        kernel.max_dynamic_shared_size_bytes = shared
    return kernel, shared


@contextmanager
def _working(plan: PatePlan, doing: str) -> Iterator[Tools]:
    """Make the plan's device the current one, and name what goes wrong on it."""
    with named_faults(f"{doing} for PATE costs", "give it fewer rows, orders or groups at a time"):
        with _lock:
            own = plan.__dict__.get("_cuda")
            if own is None:
                own = plan.__dict__["_cuda"] = Tools(plan)
        with cupy.cuda.Device(own.device):
            yield own


def start() -> None:
    """Return where the current device gives known answers. Raises BackendUnavailable."""
    with named_faults("starting"):
        if not int(cupy.cuda.runtime.getDeviceCount()):
            raise BackendUnavailable("backend 'cuda' cannot run: there is no CUDA device: use backend='cpu'")
        cupy.cuda.nvrtc.getVersion()
        trial.check(sys.modules[__name__])


def adopt(plan: PatePlan, values: Any, what: str = "votes") -> Any:
    """Return values as a CuPy array where they lie on the plan's device, else as an array on the host; no copy."""
    if on_device(values):
        with _working(plan, f"taking {what}") as own:
            array = cupy.asarray(values) if hasattr(values, "__cuda_array_interface__") else cupy.from_dlpack(values)
            if int(array.device.id) != own.device:
                raise ValueError(
                    f"{what} lie on device {array.device.id}, and this plan computes on device {own.device}: make it "
                    f"under `with cupy.cuda.Device({array.device.id})`, or copy them"
                )
            return array
    if hasattr(values, "__dlpack__") and not hasattr(values, "__array__"):
        return np.from_dlpack(values)
    return np.asarray(values)


def pieces(plan: PatePlan, votes: Any, width: int = 0) -> Iterator[tuple[int, Any]]:
    """Yield (first row, rows on the device): where they lie if kernels can read them there, else copies."""
    kind, classes = votes.dtype, int(votes.shape[1])
    host = isinstance(votes, np.ndarray)
    direct = not host and kind.name in sources.TYPES and votes.flags.c_contiguous
    direct = direct and votes.data.ptr % kind.itemsize == 0
    step = max(1, min(MOST_ROWS, ROOM_BYTES // (8 * width + 24) if width else MOST_ROWS))
    step = step if direct else max(1, min(step, PIECE_BYTES // (8 * classes)))
    for begin in range(0, len(votes), step):
        piece = votes[begin : begin + step]
        if not direct:
            piece = readable(piece, tuple(sources.TYPES))
            with _working(plan, "copying votes to the device"):
                piece = cupy.asarray(np.ascontiguousarray(piece)) if host else cupy.array(piece, order="C")
        yield begin, piece


def room(plan: PatePlan, shape: tuple[int, ...], dtype: DTypeLike, like: Any) -> Any:
    """Return an array to fill, where `like` lives."""
    if isinstance(like, np.ndarray):
        return np.empty(shape, dtype)
    with _working(plan, "making room for results"):
        return cupy.empty(shape, np.dtype(dtype))


def store(out: Any, rows: slice, values: Any) -> None:
    """Put results in their place, copying them to the host where that is."""
    with named_faults("handing over results"):
        out[rows] = values.get() if isinstance(out, np.ndarray) and hasattr(values, "get") else values


class _Target:
    """Room on the device for results: `out` itself where kernels can fill it, else an array copied there by `done`."""

    def __init__(self, out: Any) -> None:
        self.out = out
        direct = not isinstance(out, np.ndarray) and out.flags.c_contiguous
        self.array = out if direct else cupy.empty(out.shape, out.dtype)

    def done(self) -> None:
        if self.array is not self.out:
            store(self.out, slice(None), self.array)


def _here(values: Any, dtype: DTypeLike) -> Any:
    """Return values on the device, contiguous; a null pointer for none."""
    if values is None:
        return NULL
    if isinstance(values, np.ndarray):
        return cupy.asarray(np.ascontiguousarray(values, dtype))
    return cupy.ascontiguousarray(values, dtype)


def log_q(plan: PatePlan, votes: Any, lnq: Any, top: Any) -> int:
    """Fill ln q and the most votes of each row; return the first row that cannot be votes (it gets NaN), or -1."""
    with _working(plan, "reading votes") as own:
        targets = _Target(lnq), _Target(top)
        told = cupy.asarray(np.array([NO_ROW], np.uint64))
        kernel, shared = own.reader(votes.dtype)
        arguments = (votes, np.uint64(len(votes)), own.given, targets[0].array, targets[1].array, told)
        kernel(own.blocks(-(-len(votes) // sources.BLOCK)), (sources.BLOCK,), arguments, shared_mem=shared)
        first = int(told.get()[0])
        for target in targets:
            target.done()
        return -1 if first == NO_ROW else first


def log_answered(plan: PatePlan, top: Any) -> Any:
    """Return ln Pr[answered] of rows with `top` votes for their winner, on the device."""
    with _working(plan, "pricing thresholds") as own:
        out = cupy.empty(top.shape, np.float64)
        own.costs("answered")((-(-len(top) // 128),), (128,), (top, np.uint64(len(top)), own.given, out))
        return out


def costs(plan: PatePlan, lnq: Any, top: Any, realised: Any, out: Any) -> None:
    """Fill the costs [n, L] of rows already read."""
    with _working(plan, "pricing rows") as own:
        target, rows = _Target(out), len(lnq)
        arguments = (lnq, top, _here(realised, np.bool_), np.uint64(rows), own.given, target.array)
        own.costs("price", out.dtype)(own.blocks(-(-rows // (32 * WARPS))), (32 * WARPS,), arguments)
        target.done()


def best(plan: PatePlan, lnq: Any, top: Any, extra: NDArray[np.float64], eps: Any, index: Any) -> None:
    """Fill the least of cost + extra over the orders, at least 0, and the first order that has it."""
    with _working(plan, "pricing rows") as own:
        targets, rows = (_Target(eps), _Target(index)), len(lnq)
        arguments = (lnq, top, np.uint64(rows), own.given, cupy.asarray(extra), *(t.array for t in targets))
        own.costs("best_orders")((-(-rows // (32 * WARPS)),), (32 * WARPS,), arguments)
        for target in targets:
            target.done()


def thresholds(plan: PatePlan, tops: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what the threshold step costs for each number of votes, [n, L], on the host."""
    with _working(plan, "pricing thresholds") as own:
        out = cupy.empty((len(tops), plan.grid.size), np.float64)
        arguments = (cupy.asarray(tops), np.uint64(len(tops)), own.given, out)
        own.costs("thresholds")((-(-len(tops) * plan.grid.size // 128),), (128,), arguments)
        found: NDArray[np.float64] = out.get()
        return found


def empty(plan: PatePlan, groups: int) -> State:
    """Return a total of nothing on the device: sums [G, L], moments [G, M, 8] and rows by most votes beside them."""
    with _working(plan, "making room for totals") as own:
        state = {"sums": cupy.zeros((groups, plan.grid.size), np.float64)}
        if plan.mechanism == "gnmax" and groups * own.stride * 64 <= MOMENTS_MOST:
            state["moments"] = cupy.zeros((groups, own.stride, grid.DEGREE), np.float64)
        return state


def add(plan: PatePlan, state: State, votes: Any, groups: Any, weights: Any, realised: Any) -> int:
    """Add rows to a total; return the first row that cannot be votes, or -1."""
    with _working(plan, "adding rows") as own:
        given = _here(weights, np.float64), _here(realised, np.bool_), _here(groups, np.int64)
        if "moments" not in state:
            return _add_rows(plan, state, votes, given, None)
        rows = len(votes)
        told = cupy.asarray(np.array([NO_ROW, 0], np.uint64))
        marks = cupy.empty(-(-rows // 32), np.uint32)
        kernel, shared = own.tally(votes.dtype, weights is not None)
        arguments = (votes, np.uint64(rows), own.given, *given, state["moments"], marks, told)
        tile = sources.ITEMS // (2 if plan.confident else 1)
        kernel(own.blocks(-(-rows // tile)), (sources.BLOCK,), arguments, shared_mem=shared)
        bad, left = (int(value) for value in told.get())
        if left:
            _add_rows(plan, state, votes, given, marks)
        return -1 if bad == NO_ROW else bad


def _add_rows(plan: PatePlan, state: State, votes: Any, given: tuple[Any, ...], marks: Any) -> int:
    """Add rows one by one, those marked or all; return the first that cannot be votes, or -1."""
    bad = -1
    with _working(plan, "adding rows one by one") as own:
        for begin in range(0, len(votes), ROWS_AT_ONCE):
            cut = slice(begin, begin + ROWS_AT_ONCE)
            some = votes[cut]
            rows = len(some)
            lnq, top = cupy.empty(rows, np.float64), cupy.empty(rows, np.float64)
            found = log_q(plan, some, lnq, top)
            bad = begin + found if bad < 0 <= found else bad
            parts = [values if values is NULL else values[cut] for values in given]
            bits = NULL if marks is None else marks[begin // 32 : -(-(begin + rows) // 32)]
            arguments = (lnq, top, *parts, bits, np.uint64(rows), own.given, state["sums"])
            own.costs("sum_rows")((-(-rows // (32 * WARPS)),), (32 * WARPS,), arguments)
    return bad


def finish(plan: PatePlan, state: State) -> Any:
    """Return the total of each group, [G, L], on the device."""
    with _working(plan, "finishing totals") as own:
        sums = state["sums"].copy()
        if "moments" in state and len(sums):
            blocks = len(sums) * plan.grid.size
            own.costs("finish")((blocks,), (32 * WARPS,), (state["moments"], own.given, sums))
        return sums


def running(
    plan: PatePlan, votes: Any, groups: Any, spent: NDArray[np.float64], extra: NDArray[np.float64]
) -> Iterator[tuple[slice, Any]]:
    """Yield (rows, eps after each of them, of its group), on the device; spent [G, L] is what came before.

    Costs of a piece of rows are summed in strips of 16, the strips by a scan. With groups a warp adds the rows of its
    groups one after the other: right, but slow for few groups.
    """
    orders = plan.grid.size
    with _working(plan, "running eps") as own:
        before, more = cupy.asarray(spent), cupy.asarray(extra)
    for cut, lnq, top in plan._read(votes, width=orders):
        with _working(plan, "running eps") as own:
            rows, eps = len(lnq), cupy.empty(len(lnq), np.float64)
            price = cupy.empty((rows, orders), np.float64)
            costs(plan, lnq, top, None, price)
            size = np.uint64(rows), np.uint64(orders)
            if groups is None:
                strips = -(-rows // STRIP)
                sums = cupy.empty((strips, orders), np.float64)
                own.costs("strip_sums")((-(-strips * orders // 128),), (128,), (price, *size, sums))
                own.costs("strip_starts")((orders,), (32,), (sums, np.uint64(strips), size[1], before))
                named = (price, *size, sums, more, eps)
                own.costs("strip_eps")((-(-strips // WARPS),), (32 * WARPS,), named)
            else:
                numbers = _here(groups_of(groups[cut], cut.start, len(spent)), np.int64)
                arguments = (price, *size, numbers, before, more, eps)
                own.costs("group_eps")(own.blocks(MOST_ROWS), (32 * WARPS,), arguments)
        yield cut, eps
