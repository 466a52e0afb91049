"""Every CPU path against hashlib and the others, and the plans they run."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from mining import hexes, lowest, noise
from powsim_kernels import BackendUnavailable, mine, verify
from powsim_kernels.sha256 import cpu, reference, vector
from powsim_kernels.sha256.plan import plan

PATHS = [f"cpu:{name}" for name, shape in cpu.VARIANTS.items() if shape.feature in cpu.features()]


def test_this_machine_has_a_path() -> None:
    assert PATHS  # else the tests below test nothing


@pytest.mark.parametrize("path", PATHS)
def test_every_cpu_path_finds_hashlibs_nonces_at_every_length(path: str) -> None:
    rng = np.random.default_rng(20)
    # The path that this machine takes is compiled for every position of the nonce, the others for four.
    fits = range(48) if path == PATHS[0] else (0, 1, 31, 44, 45, 47)
    challenges = [noise(length, 7) for length in range(201) if length % 64 in fits]
    bits = rng.uniform(0, 9, len(challenges))
    expected = [lowest(challenge, b) for challenge, b in zip(challenges, bits.tolist(), strict=True)]
    result = mine(challenges, bits, backend=path)
    assert result.nonce.tolist() == expected
    assert result.backend == path
    assert hexes(result.digest) == [
        hashlib.sha256(c + n.to_bytes(8, "big")).hexdigest() for c, n in zip(challenges, expected, strict=True)
    ]


def test_cpu_paths_agree_on_puzzles_of_up_to_20_bits() -> None:
    rng = np.random.default_rng(21)
    challenges = [noise(int(length), i) for i, length in enumerate(rng.choice([0, 31, 44, 45, 47, 64, 111], 1000))]
    bits, start = rng.uniform(0, 20, 1000), rng.integers(0, 2**63, 1000, dtype=np.uint64)
    start[:100] = 2**32 - rng.integers(1, 5000, 100, dtype=np.uint64)  # the carry into the high half
    results = [mine(challenges, bits, start=start, backend=path) for path in PATHS]
    assert results[0].found.all()
    assert verify(challenges, results[0].nonce, bits).all()
    assert all(np.array_equal(results[0].nonce, other.nonce) for other in results[1:])


def test_an_unknown_or_missing_path_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"unknown backend 'cpu:mmx': the CPU miner has cpu:avx512, cpu:avx2"):
        mine(b"", 1, backend="cpu:mmx")
    monkeypatch.setattr(cpu, "features", lambda: {"sse2"})
    cpu.twin.cache_clear()
    with pytest.raises(BackendUnavailable, match=r"'cpu:avx2' cannot run: this CPU has no avx2; use backend='cpu'"):
        cpu.twin("cpu:avx2")
    cpu.twin.cache_clear()


@pytest.mark.parametrize("position", range(16))
def test_a_plan_is_the_digest_word(position: int) -> None:
    # The plan walked in plain integers against the reference's compression, for a word of the lane's own.
    words = [int.from_bytes(noise(4, 50 + i), "big") for i in range(16)]
    state = [int.from_bytes(noise(4, 80 + i), "big") for i in range(8)]
    before = list(state)
    for t in range(position):
        a, b, c, d, e, f, g, h = before
        t1 = h + sum_of((6, 11, 25), e) + (e & f ^ ~e & g) + reference.K[t] + words[t]
        t2 = sum_of((2, 13, 22), a) + (a & b ^ a & c ^ b & c)
        before = [(t1 + t2) % 2**32, a, b, c, (d + t1) % 2**32, e, f, g]
    steps = plan(position)
    inputs = [*before, *(0 if i == position else word for i, word in enumerate(words)), state[0]]
    scalars: list[int] = []
    for name, operands in steps.scalars:
        given = {"input": lambda i: inputs[i], "k": lambda i: reference.K[i]}
        value = given[name](operands[0]) if name in given else walk(name, [scalars[o] for o in operands])
        scalars.append(value)
    table = {place: scalars[scalar] for scalar, place in steps.table.items()}
    values: list[int] = []
    for name, operands in steps.steps:
        given_words = [values[i] if kind == "v" else table[i] for kind, i in operands]
        values.append(words[position] if name == "word" else walk(name, given_words))
    block = b"".join(word.to_bytes(4, "big") for word in words)
    assert values[steps.result] == reference.compress(tuple(state), block)[0]
    assert max(steps.table.values()) < vector.TABLE


def sum_of(turns: tuple[int, ...], x: int) -> int:
    total = 0
    for n in turns:
        total ^= reference.rotr(x, n)
    return total


def walk(name: str, operands: list[int]) -> int:
    if name == "add":
        return sum(operands) % 2**32
    if name == "ch":
        e, f, g = operands
        return (e & f ^ ~e & g) % 2**32
    if name == "maj":
        a, b, c = operands
        return a & b ^ a & c ^ b & c
    (x,) = operands
    shifted = x >> {"s0": 3, "s1": 10}[name] if name in ("s0", "s1") else 0
    return sum_of({"S0": (2, 13, 22), "S1": (6, 11, 25), "s0": (7, 18), "s1": (17, 19)}[name], x) ^ shifted


def test_plans_cost_what_they_did() -> None:
    # Vector operations per 16 hashes. A change here is a change of speed: say so where it is meant.
    assert [plan(position).cost for position in (1, 9, 11, 12, 13)] == [1518, 1352, 1294, 1265, 1236]
