"""The kernels of the miner on the host build, one launch at a time: no CuPy, no driver of searches between."""

from __future__ import annotations

import numpy as np

from nogpu import host
from powsim_kernels.sha256 import tiles, variants
from powsim_kernels.sha256.variants import DEFAULT, Variant


def joined(messages: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.zeros(len(messages) + 1, np.uint64)
    np.cumsum([len(message) for message in messages], out=offsets[1:])
    return np.frombuffer(b"".join(messages) + b"\xff", np.uint8), offsets


def digests(messages: list[bytes], lanes: int = 1) -> np.ndarray:
    library = host.build(variants.source("messages.cu"), (), lanes)
    out = np.zeros((len(messages), 8), np.uint32)
    arguments = (*joined(messages), out, len(messages))
    host.launch(library, "sha256_messages", -(-len(messages) // 64), 64, arguments)
    return out.astype(">u4").view(np.uint8)


def prepared(challenges: list[bytes], lanes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    library = host.build(variants.source("messages.cu"), (), lanes)
    n = len(challenges)
    midstate, tail = np.zeros((n, 8), np.uint32), np.zeros((n, 16), np.uint32)
    arguments = (*joined([c + bytes(8) for c in challenges]), midstate, tail, n)
    host.launch(library, "prepare", -(-n // 64), 64, arguments)
    return midstate, tail


def search(
    challenges: list[bytes],
    limits: object,
    begin: object = 0,
    count: object = 1 << 20,
    *,
    variant: Variant = DEFAULT,
    lanes: int = 1,
    seed: int = 0,
    blocks: int = 2,
    warps: int | None = None,  # for which the tiles are cut; those that run where it is None
    macros: tuple[str, ...] = (),
) -> list[int]:
    """Return the lowest solving index of each challenge, or count."""
    n = len(challenges)
    begin, count, limits = (np.broadcast_to(np.asarray(x, np.uint64), n).copy() for x in (begin, count, limits))
    place = np.array([len(c) % 64 for c in challenges])
    midstate, tail = prepared(challenges)
    result = np.zeros(n, np.uint64)
    for launch in tiles.launches(np.arange(n), place, begin, count, limits, warps or 4 * blocks):
        library = host.build(variants.source("mine.cu"), (*variants.options(variant, launch.word), *macros), lanes)
        best = launch.rows["count"].copy()
        arguments = (
            *(np.zeros(1, np.uint64), launch.tickets, launch.segments, len(launch.segments)),
            *(launch.rows, best, midstate, tail, 1),
        )
        host.launch(library, "mine_tiles", blocks, 128, arguments, seed)
        result[launch.order] = best
    return result.tolist()
