"""A pickle reader for CIFAR's batches that builds arrays, bytes, lists and dicts, and nothing else."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ARRAY_MAKERS = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since NumPy 2
BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    MemoryError,
    OverflowError,
)
BUFFER_READERS = ("numpy.core.numeric", "numpy._core.numeric")


def load(path: Path) -> Any:
    """Return what a pickle file holds, strings of Python 2 as bytes. Raises ValueError where it wants to build more.

    A pickle names functions to call. Only NumPy's array makers are found by their names, and behind these names stand
    functions of this module that make plain arrays: no file runs code.
    """
    try:
        return _Reader(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except _Refused as refused:
        raise ValueError(f"{path}: {refused}: this is no CIFAR batch, do not trust it") from None
    except BROKEN as error:
        raise ValueError(f"{path}: no readable pickle ({type(error).__name__}: {error}): copy it again") from None


class _Refused(ValueError):
    pass


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        makers: dict[tuple[str, str], Callable[..., Any]] = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _dtype,
            ("_codecs", "encode"): _encode,
        }
        makers |= {(room, "_reconstruct"): _empty for room in ARRAY_MAKERS}
        makers |= {(room, "_frombuffer"): _from_buffer for room in BUFFER_READERS}
        if (module, name) not in makers:
            raise _Refused(f"it asks for {module}.{name}")
        made = makers[module, name]

        # A new function each time: a pickle may set attributes of what it finds.
        return made if made is np.ndarray else lambda *values: made(*values)


def _dtype(kind: Any, *_: Any) -> np.dtype[Any]:
    text = kind.decode("ascii") if isinstance(kind, bytes) else kind
    if not isinstance(text, str) or text.lstrip("<>=|") not in ("u1", "i1", "i2", "i4", "i8", "f4", "f8"):
        raise _Refused(f"it asks for an array of {kind!r}")
    return np.dtype(text)


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if encoding not in ("latin1", b"latin1") or not isinstance(text, str):
        raise _Refused(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _empty(kind: Any, shape: Any, _: Any) -> Any:
    if kind is not np.ndarray or tuple(shape) != (0,):
        raise _Refused("it builds an array in an unknown way")
    return np.ndarray((0,), np.int8)  # its contents come with the next opcode


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> Any:
    return np.frombuffer(data, dtype).reshape(shape, order=order)
