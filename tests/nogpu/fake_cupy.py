"""The small part of CuPy that the CUDA twin uses, on NumPy and the host build: the launch layer without a GPU.

A `Machine` says which devices there are and what is wrong with them. `Machine.cupy` stands in for the module; what it
refuses, it refuses with the exceptions of CuPy 14 (`Insufficient driver` and the like were seen on a machine without
one), so that the errors' way to the user is tested as well.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np

from nogpu import host


class CUDARuntimeError(RuntimeError):
    pass


class DynamicLibNotFoundError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class CompileException(Exception):
    pass


class FakeArray:
    """Memory of one device; what NumPy would read without saying so is refused, as CuPy refuses it."""

    __array_ufunc__ = None  # NumPy's operators give way

    def __init__(self, machine: Machine, device: int, values: np.ndarray) -> None:
        self.machine, self.values = machine, values
        self.device = SimpleNamespace(id=device)
        self.shape, self.dtype, self.nbytes, self.ndim = values.shape, values.dtype, values.nbytes, values.ndim
        self.flags, self.data = values.flags, SimpleNamespace(ptr=values.ctypes.data)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.values.__array_interface__, "version": 3, "stream": 1}

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct one.")

    def _same(self, other: Any) -> Any:
        if isinstance(other, FakeArray):
            assert other.device.id == self.device.id, "foreign memory"
            return other.values
        if isinstance(other, np.ndarray):
            raise TypeError(f"Unsupported type {type(other)}")
        return other

    def _new(self, values: Any) -> FakeArray:
        self.machine.reached(self.device.id)
        return FakeArray(self.machine, self.device.id, np.asarray(values))

    def __getitem__(self, key: Any) -> FakeArray:
        keys = key if isinstance(key, tuple) else (key,)
        return FakeArray(self.machine, self.device.id, self.values[(*map(self._same, keys), ...)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.machine.reached(self.device.id)
        self.values[key] = self._same(value)

    def __len__(self) -> int:
        return len(self.values)

    def __bool__(self) -> bool:
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __iadd__(self, other: Any) -> FakeArray:
        self.values += self._same(other)
        return self

    def get(self) -> np.ndarray:
        self.machine.reached(self.device.id)
        return self.values.copy()

    def tolist(self) -> list[Any]:
        return self.get().tolist()


def _operator(name: str) -> Callable[..., FakeArray]:
    return lambda self, *others, **more: self._new(
        getattr(self.values, name)(*(self._same(other) for other in others), **more)
    )


for _name in (
    *("__add__", "__sub__", "__mul__", "__and__", "__or__", "__lt__", "__le__", "__gt__", "__ge__", "__eq__"),
    *("any", "all", "max", "min", "argmin", "argmax", "sum", "astype", "copy", "clip", "view", "reshape"),
):
    setattr(FakeArray, _name, _operator(_name))


class Event:
    def __init__(self, machine: Machine) -> None:
        self.machine, self.at = machine, 0.0

    def record(self) -> None:
        self.at = self.machine.now

    def synchronize(self) -> None:
        pass


class Kernel:
    def __init__(self, machine: Machine, code: str, options: tuple[str, ...], name: str) -> None:
        self.machine, self.options, self.name, self.device = machine, options, name, machine.current
        self.code = code
        self.max_dynamic_shared_size_bytes = 48 << 10

    @cached_property
    def library(self) -> Any:
        """Compile, as CuPy does, when something is first asked of the kernel."""
        self.machine.reached(self.machine.current)
        self.machine.version()
        if self.machine.refused(self.options):
            raise CompileException("kern.cu(1): error: this variant is refused")
        try:
            lanes = 32 if "__shfl" in self.code else self.machine.lanes  # sums over a warp need one
            return host.build(self.code, self.options, lanes)
        except SyntaxError as error:
            raise CompileException(str(error)) from None

    @property
    def num_regs(self) -> int:
        return 126 if self.library else 0

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...], shared_mem: int = 0
    ) -> None:
        machine = self.machine
        assert 0 < grid[0] < 2**31, "no grid for a device"
        assert shared_mem <= self.max_dynamic_shared_size_bytes <= 99 << 10, "more shared memory than was asked for"
        machine.reached(machine.current)
        assert self.device == machine.current, "a kernel of another device"
        assert all(isinstance(a, FakeArray | np.integer | np.ndarray) for a in arguments), (
            "an argument without a C type"
        )
        assert all(a.device.id == machine.current for a in arguments if isinstance(a, FakeArray)), "foreign memory"
        machine.launched.append((machine.current, self.name, self.options))
        if self.name in machine.broken:
            raise CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")
        assert all(a.flags.c_contiguous for a in arguments if isinstance(a, FakeArray)), "memory with gaps"
        given = tuple(a.values if isinstance(a, FakeArray) else a for a in arguments)
        began = time.perf_counter()
        host.launch(self.library, self.name, grid[0], block[0], given, machine.seed, shared_mem)
        took = time.perf_counter() - began
        machine.now += machine.seconds(self.options) if machine.seconds else took


@dataclass
class Machine:
    """A machine with imagined GPUs."""

    names: tuple[str, ...] = ("Imagined GPU",)
    driver: bool = True
    nvrtc: bool = True
    lanes: int = 1  # 32: real warps of fibers, slower
    seed: int = 0
    largest: int = 1 << 40  # bytes of the largest array that fits
    lost: set[int] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)  # kernels that fail when they run
    refused: Callable[[tuple[str, ...]], bool] = lambda options: False  # what does not compile
    seconds: Callable[[tuple[str, ...]], float] | None = None  # what a launch takes by the device's clock
    launched: list[tuple[int, str, tuple[str, ...]]] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.place = threading.local()

    @property
    def current(self) -> int:
        return getattr(self.place, "stack", [0])[-1]

    def reached(self, device: int) -> None:
        if not self.driver:
            raise CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
        if device in self.lost:
            raise CUDARuntimeError("cudaErrorDevicesUnavailable: CUDA-capable device(s) is/are busy or unavailable")

    def allocate(self, values: np.ndarray) -> FakeArray:
        self.reached(self.current)
        if values.nbytes > self.largest:
            raise OutOfMemoryError(f"Out of memory allocating {values.nbytes:,} bytes")
        return FakeArray(self, self.current, values)

    def take(self, values: Any, dtype: Any = None, order: str | None = None) -> FakeArray:
        """Return values as an array of the current device, without a copy where they are one."""
        if isinstance(values, FakeArray):
            if dtype is None and order is None:
                return values
            return FakeArray(self, values.device.id, np.ascontiguousarray(values.values, dtype))
        if hasattr(values, "__cuda_array_interface__"):
            face = values.__cuda_array_interface__
            size = int(np.prod(face["shape"])) * np.dtype(face["typestr"]).itemsize
            memory = (ctypes.c_char * size).from_address(face["data"][0])
            return FakeArray(self, self.current, np.frombuffer(memory, face["typestr"]).reshape(face["shape"]))
        return self.allocate(np.array(values, dtype))

    def from_dlpack(self, values: Any) -> FakeArray:
        assert values.__dlpack_device__()[0] in (2, 13), "memory of the host"
        return FakeArray(self, int(values.__dlpack_device__()[1]), values.values)

    def module(self, code: str, options: tuple[str, ...]) -> SimpleNamespace:
        return SimpleNamespace(get_function=lambda name: Kernel(self, code, options, name))

    def version(self) -> tuple[int, int]:
        if not self.nvrtc:
            raise DynamicLibNotFoundError('Failure finding "libnvrtc.so.13 or libnvrtc.so.12": No such file')
        return 13, 5

    def count(self) -> int:
        if not self.driver:
            raise CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
        return len(self.names)

    def properties(self, device: int) -> dict[str, object]:
        self.reached(device)
        return {"name": self.names[device].encode(), "multiProcessorCount": 2}

    @property
    def cupy(self) -> SimpleNamespace:
        """Return what `import cupy` shall give."""
        machine = self

        class Device:
            def __init__(self, index: int) -> None:
                self.id, self.compute_capability = index, "90"

            def __enter__(self) -> None:
                machine.reached(self.id)
                machine.place.stack = [*getattr(machine.place, "stack", [0]), self.id]

            def __exit__(self, *_: object) -> None:
                machine.place.stack = machine.place.stack[:-1]

        runtime = SimpleNamespace(
            getDevice=lambda: self.current,
            getDeviceCount=self.count,
            getDeviceProperties=self.properties,
            driverGetVersion=lambda: 13000,
            deviceGetPCIBusId=lambda device: f"0000:0{device}:00.0",
        )
        cuda = SimpleNamespace(
            runtime=runtime,
            nvrtc=SimpleNamespace(getVersion=self.version),
            compiler=SimpleNamespace(CompileException=CompileException),
            Device=Device,
            Event=lambda: Event(self),
            get_elapsed_time=lambda before, after: 1000.0 * (after.at - before.at),
        )
        return SimpleNamespace(
            __version__="14.2.0",
            __spec__=None,
            cuda=cuda,
            asarray=self.take,
            array=lambda values, order: self.take(values, order=order),
            ascontiguousarray=self.take,
            from_dlpack=self.from_dlpack,
            ndarray=FakeArray,
            empty=lambda shape, dtype: self.allocate(np.full(shape, 0xA5, dtype)),
            zeros=lambda shape, dtype: self.allocate(np.zeros(shape, dtype)),
            RawModule=lambda code, options: self.module(code, options),
            is_available=lambda: self.driver and bool(self.names),
        )
