"""Checks, dispatch and self-test of the puzzle SHA-256(challenge || X), X the nonce as 8 bytes big-endian.

X solves a puzzle if the first 8 bytes of the digest, read big-endian, are at most `target_limit(bits)`. The
nonce has a fixed length and shares its 64-byte block with the padding: after the whole leading blocks of the
challenge at most 55 bytes may follow, X included, so that one try costs one compression. SHA-256 is FIPS
180-4; the puzzle is Hashcash (Back 2002) with a target in place of zero bits.
"""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powsim_kernels.backend import BackendUnavailable, resolve
from powsim_kernels.sha256.search import Cancel, MineProgress, MineResult, Twin, search
from powsim_kernels.sha256.target import target_limit
from powsim_kernels.threads import thread_count

OFFERED = ("reference", "cpu", "cuda")
TAIL_BYTES = 55
"""Bytes of a last block that leave room for the one bit and the length (FIPS 180-4, 5.1.1)."""
NONCE_BYTES = 8
ENCODE = "encode it first, for example with .encode()"


def sha256(
    messages: bytes | Sequence[bytes], *, backend: str = "auto", threads: int | None = None
) -> NDArray[np.uint8]:
    """Return the SHA-256 digest of each message: uint8 [N, 32].

    messages: N bytes objects of any lengths, or one (then N = 1). Raises TypeError for messages that are not
    bytes.
    """
    rows = check_bytes("messages", messages)
    out: NDArray[np.uint8] = _twin(_resolve(backend)).sha256(rows, thread_count(threads))
    return out


def mine(
    challenges: bytes | Sequence[bytes],
    bits: ArrayLike,
    *,
    backend: str = "auto",
    threads: int | None = None,
    start: ArrayLike = 0,
    limit: int | None = None,
    cancel: Cancel | None = None,
    on_progress: Callable[[MineProgress], None] | None = None,
) -> MineResult:
    """Return the lowest solving nonce >= start of each puzzle, the same on every backend and thread count.

    challenges: P bytes objects, or one (then P = 1), of lengths with length % 64 <= 47.
    bits: 0..64 with fractions, and start: 0..2^64-1, each one for all or [P].
    limit: most nonces tried per puzzle; None searches until the 2^64 nonces end.
    cancel: polled between chunks of about 50 ms; puzzles not solved by then have found=False, and the
    result's `next_start` resumes them. on_progress: called after each chunk, in the calling thread.

        mine(b"challenge", 8).nonce  # array([197], dtype=uint64)

    The search needs about 2^bits hashes per puzzle. Raises ValueError or TypeError naming the argument and
    the first bad value, before anything is tried.
    """
    rows = check_challenges(challenges)
    limits = _limits(bits, len(rows))
    first = check_nonces("start", start, len(rows))
    if limit is not None and not isinstance(limit, int | np.integer):
        raise TypeError(f"limit={limit!r} must be an integer, or None to search until found")
    if limit is not None and limit < 0:
        raise ValueError(f"limit={limit} must be at least 0, or None to search until found")
    most = None if limit is None else int(limit)
    count = thread_count(threads)
    name = _resolve(backend)
    return _mine(_twin(name), name, rows, limits, first, most, count, cancel, on_progress)


def verify(
    challenges: bytes | Sequence[bytes],
    nonces: ArrayLike,
    bits: ArrayLike,
    *,
    backend: str = "auto",
    threads: int | None = None,
) -> NDArray[np.bool_]:
    """Return whether each nonce solves its puzzle: bool [P].

    challenges: P bytes objects, or one (then P = 1); nonces: 0..2^64-1 and bits: 0..64, each one for all or
    [P]. Costs one digest per puzzle. Raises what `mine` raises.
    """
    rows = check_challenges(challenges)
    limits = _limits(bits, len(rows))
    tried = check_nonces("nonces", nonces, len(rows))
    digests = _twin(_resolve(backend)).sha256(_messages(rows, tried), thread_count(threads))
    solved: NDArray[np.bool_] = _first_64_bits(digests) <= limits
    return solved


def self_test(backend: str = "auto") -> None:
    """Return if `backend` computes known answers; it runs by itself before the first work of each backend.

    The answers: the digests of FIPS 180-2, appendices B.1 and B.2, and one puzzle whose challenge fills a
    whole block and 13 bytes of the next, searched across the carry from the low to the high half of the
    nonce. Raises BackendUnavailable naming the wrong answer.
    """
    name = _resolve(backend)
    if name == "cpu":
        cpu = importlib.import_module("powsim_kernels.sha256.cpu")
        name = cpu.fastest()  # itself, not its loop over hashlib
    check_answers(_untested(name), name)


def paths() -> list[str]:
    """Return the ways to mine that this CPU has, fastest first, each a `backend`: ["cpu:sha-ni", "cpu:avx2", ...]."""
    found: list[str] = importlib.import_module("powsim_kernels.sha256.cpu").paths()
    return found


CURE = "its results cannot be trusted; update its compiler and driver, or use backend='reference'"
ANSWERS = (
    (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    ),
)
PUZZLE = (b"powsim self-test" * 5)[:77], 6, 2**32 - 5
PUZZLE_NONCE = 2**32 + 79


def check_answers(twin: Twin, name: str) -> None:
    """Return if the module `twin` computes the known answers, else raise BackendUnavailable."""
    got = [bytes(row).hex() for row in twin.sha256([message for message, _ in ANSWERS], 1)]
    for (message, expected), digest in zip(ANSWERS, got, strict=True):
        if digest != expected:
            raise BackendUnavailable(
                f"backend {name!r} failed its self-test: SHA-256 of {message!r} came out as {digest}: {CURE}"
            )
    challenge, bits, start = PUZZLE
    puzzle = [challenge], target_limit(bits), np.array([start], np.uint64)
    mined = _mine(twin, name, *puzzle, 4096, 1, None, None)
    if int(mined.nonce[0]) != PUZZLE_NONCE:
        raise BackendUnavailable(
            f"backend {name!r} failed its self-test: nonce {mined.nonce[0]} came out, not {PUZZLE_NONCE}: {CURE}"
        )


@cache  # an exception is not cached: a backend that fails is tested again
def _twin(name: str) -> Twin:
    """Return the module of a backend, tested."""
    twin = _untested(name)
    check_answers(twin, name)
    return twin


def _untested(name: str) -> Twin:
    if name == "reference":
        return importlib.import_module("powsim_kernels.sha256.reference")
    module = importlib.import_module(f"powsim_kernels.sha256.{name.partition(':')[0]}")
    if name == "cuda":
        for device in module.names():
            _twin(device)  # each device must pass the self-test alone
    twin: Twin = module.twin(name)
    return twin


def _resolve(backend: str) -> str:
    """Return the backend that runs, "cpu:avx2", "cuda:1" and the like among them.

    "auto" warns and takes the CPU where there is a GPU that cannot start, say because NVRTC is missing.
    """
    kind, colon, _ = str(backend).partition(":")
    if colon and kind in ("cpu", "cuda"):
        resolve(kind, OFFERED)
        return backend
    name = resolve(backend, OFFERED)
    fault = _cuda_fault() if backend == "auto" and name == "cuda" else None
    if fault is None:
        return name
    warnings.warn(f"{fault}; backend='auto' uses the CPU", RuntimeWarning, stacklevel=3)
    return resolve("cpu", OFFERED)


@cache
def _cuda_fault() -> str | None:
    """Return why the GPUs cannot start, or None if they have; found out once."""
    try:
        _twin("cuda")
    except BackendUnavailable as error:
        return str(error)
    return None


def _mine(
    twin: Twin,
    name: str,
    rows: list[bytes],
    limits: NDArray[np.uint64],
    start: NDArray[np.uint64],
    most: int | None,
    threads: int,
    cancel: Cancel | None,
    on_progress: Callable[[MineProgress], None] | None,
) -> MineResult:
    joules_before, began = twin.energy_j(), time.perf_counter()  # a driver may take 15 ms to tell
    puzzles = twin.prepare(rows, threads)
    tries, found = search(twin, puzzles, start, limits, most, threads=threads, cancel=cancel, on_progress=on_progress)
    nonce = np.where(found, start + tries - np.uint64(1), np.uint64(0))
    digest = np.zeros((len(rows), 32), np.uint8)
    won = np.flatnonzero(found)
    digest[won] = twin.sha256(_messages([rows[row] for row in won], nonce[won]), threads)
    wrong = won[_first_64_bits(digest[won]) > limits[won]]
    if wrong.size:
        raise BackendUnavailable(
            f"backend {name!r} gave nonce {nonce[wrong[0]]} for challenges[{wrong[0]}], which does not solve it: {CURE}"
        )
    seconds, joules_after = time.perf_counter() - began, twin.energy_j()
    joules = None if joules_before is None or joules_after is None else joules_after - joules_before
    return MineResult(nonce, digest, tries, found, start, seconds, joules, name)


def check_bytes(name: str, values: object) -> list[bytes]:
    """Return one or many bytes objects as a list, or raise TypeError naming the first that is none."""
    if isinstance(values, bytes | bytearray | memoryview):
        return [bytes(values)]
    if isinstance(values, str):
        raise TypeError(f"{name} is a str: {ENCODE}")
    if not isinstance(values, Iterable):
        raise TypeError(f"{name} is of type {type(values).__name__}: bytes, or a list of bytes, are needed")
    rows = list(values)
    if set(map(type, rows)) <= {bytes}:
        return rows
    for row, value in enumerate(rows):
        if not isinstance(value, bytes | bytearray | memoryview):
            cure = ENCODE if isinstance(value, str) else "bytes are needed"
            raise TypeError(f"{name}[{row}] is of type {type(value).__name__}: {cure}")
    return [bytes(value) for value in rows]


def check_challenges(challenges: bytes | Sequence[bytes]) -> list[bytes]:
    """Return challenges as a list of bytes, or raise naming the first that leaves the nonce no room."""
    rows = check_bytes("challenges", challenges)
    for row, length in enumerate(map(len, rows)):
        tail = length % 64 + NONCE_BYTES
        if tail > TAIL_BYTES:
            whole = length // 64 * 64
            raise ValueError(
                f"challenges[{row}] of {length} bytes leaves, with the nonce, {tail} bytes after "
                f"its whole blocks, above the limit of {TAIL_BYTES}: pad the challenge to a multiple of 64 "
                f"({whole + 64} bytes), or shorten it to {whole + TAIL_BYTES - NONCE_BYTES}"
            )
    return rows


def check_nonces(name: str, values: ArrayLike, puzzles: int) -> NDArray[np.uint64]:
    """Return integers 0..2^64-1, one for all or [P], as uint64 [P]; raise naming the first bad one."""
    given = np.asarray(values)
    if given.dtype.kind not in "iu" and given.size:
        # Python integers above 2^63 beside negative ones, or above 2^64, have no NumPy type: one by one.
        given = np.asarray(values, dtype=object)
        for value in given.flat:
            if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
                raise TypeError(f"{name} holds {value!r}: integers are needed")
    outside = [value for value in (given.min(), given.max()) if not 0 <= value < 2**64] if given.size else []
    if outside:
        raise ValueError(f"{name} {outside[0]} is outside 0..2^64-1, what 8 bytes hold")
    return _per_puzzle(name, given.astype(np.uint64), puzzles)


def _limits(bits: ArrayLike, puzzles: int) -> NDArray[np.uint64]:
    return _per_puzzle("bits", target_limit(bits).reshape(np.shape(bits)), puzzles)


def _per_puzzle(name: str, values: NDArray[np.uint64], puzzles: int) -> NDArray[np.uint64]:
    """Return `values` as [P], or raise ValueError unless they are one for all or one each."""
    if values.shape not in ((), (puzzles,)):
        raise ValueError(f"{name} has shape {values.shape}, but there are {puzzles} challenges: give one, or one each")
    return np.array(np.broadcast_to(values, (puzzles,)))


def _messages(rows: list[bytes], nonces: NDArray[np.uint64]) -> list[bytes]:
    ends = nonces.astype(">u8").tobytes()
    return [row + ends[at : at + NONCE_BYTES] for row, at in zip(rows, range(0, len(ends), NONCE_BYTES), strict=True)]


def _first_64_bits(digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(digests[:, :8]).view(">u8")[:, 0].astype(np.uint64)
