"""SHA-256 and the miner on NVIDIA GPUs: CUDA C++ (`mine.cu`, `messages.cu`) compiled and launched through CuPy.

The versions of the kernel, with their counted and measured cost, stand in `mine.cu`; `python -m powsim_kernels.check`
measures them. This file is the launch layer and the only one that knows CuPy: devices, compilation, transfers, and
errors as BackendUnavailable. Searches are cut into launches by the caller (`search`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import cupy
import numpy as np
from numpy.typing import NDArray

from powsim_kernels.backend import BackendUnavailable
from powsim_kernels.cuda import named_faults
from powsim_kernels.sha256 import nvml, tiles, tune, variants
from powsim_kernels.sha256.variants import WARPS_PER_BLOCK, Variant

FIRST_CHUNK = 1 << 26
"""Hashes of the first chunk of a search, for each device: 3 ms of an H100 by the counted rate."""

BLOCK = 32 * WARPS_PER_BLOCK
SIDE_BY_SIDE = 8
"""Puzzles that a search should have open for each resident warp: enough that warps seldom meet on one."""


class Puzzles(NamedTuple):
    """Challenges as `search` wants them: on every device."""

    place: NDArray[np.int64]  # [P] byte of the last block at which the nonce begins, 0..47
    midstate: list[Any]  # per device, uint32 [P, 8]
    tail: list[Any]  # per device, uint32 [P, 16]


class Device:
    """One GPU: its compiled kernels, and the variant that it runs."""

    def __init__(self, index: int) -> None:
        self.index = index
        with named_faults(f"asking for device {index}"):
            runtime = cupy.cuda.runtime
            properties = runtime.getDeviceProperties(index)
            self.name = properties["name"].decode()
            self.multiprocessors = int(properties["multiProcessorCount"])
            self.capability = str(cupy.cuda.Device(index).compute_capability)
            self.bus = str(runtime.deviceGetPCIBusId(index))
            versions = f"driver {runtime.driverGetVersion()}, CuPy {cupy.__version__}"
        with named_faults("loading the compiler NVRTC"):
            versions += ", NVRTC {}.{}".format(*cupy.cuda.nvrtc.getVersion())
        self.versions = versions
        self._kernels: dict[tuple[str, str, tuple[str, ...]], Any] = {}
        self._lock = threading.Lock()
        self.variant = variants.DEFAULT

    @property
    def identity(self) -> str:
        """Return what the choice of a variant depends on, beside the sources."""
        return f"{self.name}, compute capability {self.capability}, {self.versions}"

    @property
    def warps(self) -> int:
        """Return how many warps of the search kernel are resident."""
        return self.multiprocessors * self.variant.min_blocks * WARPS_PER_BLOCK

    @contextmanager
    def working(self, doing: str) -> Iterator[None]:
        """Make this the current device, and name what goes wrong on it."""
        smaller = "give it fewer or shorter messages at a time"
        with named_faults(f"{doing} on device {self.index} ({self.name})", smaller), cupy.cuda.Device(self.index):
            yield

    def kernel(self, file: str, name: str, options: tuple[str, ...] = ("-std=c++17",)) -> Any:
        """Return a compiled kernel; CuPy keeps compiled code on disk."""
        key = (file, name, options)
        found = self._kernels.get(key)
        if found is None:
            found = cupy.RawModule(code=variants.source(file), options=options).get_function(name)
            _ = found.num_regs  # CuPy compiles when it is first asked
            with self._lock:
                self._kernels[key] = found
        return found

    def miner(self, variant: Variant, word: int) -> Any:
        """Return the search kernel for nonces that end in block word `word`."""
        return self.kernel("mine.cu", "mine_tiles", variants.options(variant, word))

    def compile(self, variant: Variant, word: int) -> None:
        """Compile a variant, so that searching with it starts at once."""
        with self.working(f"compiling variant {variant.name!r}"):
            self.miner(variant, word)

    def send(self, messages: list[bytes]) -> tuple[Any, Any, int]:
        """Return all bytes in one array, and where each message begins (and the last one ends), both on the device."""
        offsets = np.zeros(len(messages) + 1, np.uint64)
        np.cumsum(list(map(len, messages)), out=offsets[1:])
        data = np.frombuffer(b"".join(messages) or b"\0", np.uint8)
        return cupy.asarray(data), cupy.asarray(offsets), len(messages)

    def sha256(self, messages: list[bytes]) -> NDArray[np.uint8]:
        """Return the digest of every message; where the memory does not hold all of them, half at a time."""
        try:
            return self._digests(messages)
        except MemoryError:
            if len(messages) < 2:
                raise
        half = len(messages) // 2
        return np.concatenate((self.sha256(messages[:half]), self.sha256(messages[half:])))

    def _digests(self, messages: list[bytes]) -> NDArray[np.uint8]:
        data, offsets, n = self.send(messages)
        out = cupy.empty((n, 8), np.uint32)
        self.kernel("messages.cu", "sha256_messages")((-(-n // BLOCK),), (BLOCK,), (data, offsets, out, np.uint32(n)))
        words: NDArray[np.uint32] = out.get()
        return words.astype(">u4").view(np.uint8)

    def prepare(self, messages: list[bytes]) -> tuple[Any, Any]:
        """Return midstates and padded last blocks of challenges that end in eight zero bytes, on the device."""
        data, offsets, n = self.send(messages)
        midstate, tail = cupy.empty((n, 8), np.uint32), cupy.empty((n, 16), np.uint32)
        arguments = (data, offsets, midstate, tail, np.uint32(n))
        self.kernel("messages.cu", "prepare")((-(-n // BLOCK),), (BLOCK,), arguments)
        return midstate, tail

    def start(self, work: list[tiles.Launch], midstate: Any, tail: Any, variant: Variant | None = None) -> Any:
        """Start the launches one after the other; return their `best` on the device, in the order of their rows.

        One transfer brings all their inputs, so that no launch waits for another's: tickets, best, rows, segments.
        """
        chosen = variant or self.variant
        kernels = [self.miner(chosen, launch.word) for launch in work]
        total = sum(len(launch.rows) for launch in work)
        parts = [np.zeros(len(work), np.uint64), *(launch.rows["count"] for launch in work)]
        parts += [launch.rows.view(np.uint64) for launch in work]
        parts += [launch.segments.view(np.uint64) for launch in work]
        job = cupy.asarray(np.concatenate(parts))
        best, rows = job[len(work) :], job[len(work) + total :]
        segments = rows[total * (tiles.ROW.itemsize // 8) :]
        for number, (launch, kernel) in enumerate(zip(work, kernels, strict=True)):
            blocks = min(self.multiprocessors * chosen.min_blocks, -(-launch.tickets // WARPS_PER_BLOCK))
            arguments = (
                *(job[number:], np.uint64(launch.tickets), segments, np.uint32(len(launch.segments))),
                *(rows, best, midstate, tail, np.uint32(1)),
            )
            kernel((blocks,), (BLOCK,), arguments)
            best = best[len(launch.rows) :]
            rows = rows[len(launch.rows) * (tiles.ROW.itemsize // 8) :]
            segments = segments[len(launch.segments) * (tiles.SEGMENT.itemsize // 8) :]
        return job[len(work) : len(work) + total]

    def trial(
        self, variant: Variant, challenge: bytes, begin: int, count: int, limits: NDArray[np.uint64]
    ) -> tuple[NDArray[np.uint64], float]:
        """Return (lowest solving index or count for each limit, seconds on the device) of one launch."""
        with self.working(f"trying variant {variant.name!r}"):
            midstate, tail = self.prepare([challenge + bytes(8)])
            many = np.ones(len(limits), np.uint64)
            puzzle, place = np.zeros(len(limits), np.int64), np.full(len(limits), len(challenge) % 64)
            warps = self.multiprocessors * variant.min_blocks * WARPS_PER_BLOCK
            work = tiles.launches(puzzle, place, many * np.uint64(begin), many * np.uint64(count), limits, warps)
            self.compile(variant, work[0].word)
            before, after = cupy.cuda.Event(), cupy.cuda.Event()
            before.record()
            best = self.start(work, midstate, tail, variant)
            after.record()
            after.synchronize()
            result = np.empty(len(limits), np.uint64)
            result[work[0].order] = best.get()
            return result, float(cupy.cuda.get_elapsed_time(before, after)) / 1000.0

    def probe(self, name: str, loops: int = 200) -> float:
        """Return the operations per clock and multiprocessor of a kernel of `pipes.cu`, the median multiprocessor's."""
        with self.working(f"measuring {name!r}"):
            out, cycles = cupy.empty(self.multiprocessors * 1024, np.uint32), cupy.empty(self.multiprocessors, np.int64)
            kernel = self.kernel("pipes.cu", name)
            for _ in range(2):  # the first run warms the instruction cache
                arguments = (out, cycles, np.uint32(12345), np.uint32(1), np.int32(loops))
                kernel((self.multiprocessors,), (1024,), arguments)
            return 1024 * 8 * 64 * loops / float(np.median(cycles.get()))

    def clock_ghz(self, seconds: float = 0.02) -> float:
        """Return the clock of a multiprocessor that does little else."""
        with self.working("measuring the clock"):
            out = cupy.empty(2, np.int64)
            self.kernel("pipes.cu", "clock_rate")((1,), (32,), (out, np.int64(1e9 * seconds)))
            clocks, nanoseconds = out.get().tolist()
            return float(clocks / nanoseconds)


class CudaTwin:
    """The miner on one or several devices; what it offers is described by `search.Twin`."""

    def __init__(self, devices: list[Device]) -> None:
        self.devices = devices
        self.FIRST_CHUNK = FIRST_CHUNK * len(devices)
        self.BREADTH = SIDE_BY_SIDE * sum(device.warps for device in devices)

    def energy_j(self) -> float | None:
        """Return the joules that the devices have drawn together so far, or None where NVML does not tell."""
        return nvml.energy_j([device.bus for device in self.devices])

    def sha256(self, messages: list[bytes], threads: int | None) -> NDArray[np.uint8]:
        """Return the digest of every message: uint8 [N, 32]; `threads` is not used."""
        if not messages:
            return np.empty((0, 32), np.uint8)
        device = self.devices[0]
        with device.working(f"hashing {len(messages)} messages"):
            return device.sha256(messages)

    def prepare(self, challenges: list[bytes], threads: int | None) -> Puzzles:
        """Return midstates and padded tails of the challenges, on every device; `threads` is not used."""
        place = np.array(list(map(len, challenges)), np.int64) % 64
        puzzles = Puzzles(place, [], [])
        for device in self.devices if challenges else []:
            with device.working(f"preparing {len(challenges)} challenges"):
                midstate, tail = device.prepare([challenge + bytes(8) for challenge in challenges])
            puzzles.midstate.append(midstate)
            puzzles.tail.append(tail)
        return puzzles

    def search(
        self,
        puzzles: Puzzles,
        rows: NDArray[np.int64],
        begin: NDArray[np.uint64],
        count: NDArray[np.uint64],
        limits: NDArray[np.uint64],
        threads: int | None,
    ) -> NDArray[np.uint64]:
        """Return, for each row, the lowest i < count with begin + i solving its puzzle, or count: uint64 [R]."""
        result = np.array(count, np.uint64)
        running = []
        for number, share in enumerate(tiles.cut(result, len(self.devices))):
            if not len(share.row):
                continue
            device, row = self.devices[number], share.row
            with device.working(f"searching {len(row)} puzzles"):
                starts = begin[row] + share.skip
                work = tiles.launches(
                    rows[row], puzzles.place[rows[row]], starts, share.nonces, limits[row], device.warps
                )
                best = device.start(work, puzzles.midstate[number], puzzles.tail[number])
            running.append((device, share, np.concatenate([launch.order for launch in work]), best))
        for device, share, order, best in running:
            with device.working("waiting for a search"):
                index: NDArray[np.uint64] = best.get()
            hit = index < share.nonces[order]
            np.minimum.at(result, share.row[order][hit], share.skip[order][hit] + index[hit])
        return result


@cache
def open_device(index: int) -> Device:
    """Return a device with its variant chosen. Raises BackendUnavailable."""
    device = Device(index)
    device.variant = tune.choose(device)
    return device


def count_devices() -> int:
    """Return how many devices CUDA shows. Raises BackendUnavailable where there is none."""
    with named_faults("counting devices"):
        count = int(cupy.cuda.runtime.getDeviceCount())
    if not count:
        raise BackendUnavailable("backend 'cuda' cannot run: there is no CUDA device: use backend='cpu'")
    return count


def names() -> list[str]:
    """Return "cuda:0", "cuda:1", ..: a backend for every device. Raises BackendUnavailable where there is none."""
    return [f"cuda:{index}" for index in range(count_devices())]


@cache
def twin(name: str) -> CudaTwin:
    """Return the twin "cuda", on every device that CUDA shows, or "cuda:N", on device N. Raises BackendUnavailable."""
    count = count_devices()
    if name == "cuda":
        # In turn: devices of one kind are measured once, and the others find the choice remembered.
        return CudaTwin([open_device(index) for index in range(count)])
    number = name.removeprefix("cuda:")
    if not number.isdecimal():
        raise ValueError(f"unknown backend {name!r}: name a device by its number, as in 'cuda:0'")
    if int(number) >= count:
        raise BackendUnavailable(
            f"backend {name!r} cannot run: CUDA shows {count} device{'s' if count > 1 else ''}: use "
            + ("'cuda:0'" if count == 1 else f"'cuda:0' to 'cuda:{count - 1}'")
        )
    return CudaTwin([open_device(int(number))])
