"""The CUDA twin on a real device: the assertions that the host build and the imagined GPUs pass elsewhere."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mining import hexes, lowest, noise, same, value_of
from powsim_kernels import mine, sha256, target_limit, verify
from powsim_kernels.check.__main__ import main
from powsim_kernels.sha256 import contract, self_test, tune
from powsim_kernels.sha256.search import CHUNK_S
from powsim_kernels.sha256.variants import VARIANTS

pytestmark = pytest.mark.gpu


def test_the_known_answers_come_out_on_every_device() -> None:
    self_test("cuda")
    for device in range(len(contract._twin("cuda").devices)):
        self_test(f"cuda:{device}")


def test_digests_of_every_length() -> None:
    messages = [noise(length, length) for length in (*range(300), 10_000)]
    assert hexes(sha256(messages, backend="cuda")) == [hashlib.sha256(message).hexdigest() for message in messages]


def test_every_place_of_the_nonce_finds_hashlibs_nonce() -> None:
    rng = np.random.default_rng(3)
    challenges = [noise(length, 2) for length in range(192) if length % 64 <= 47]
    bits = rng.uniform(0, 10, len(challenges))
    start = rng.integers(0, 2**64 - 2**20, len(challenges), dtype=np.uint64)
    start[::3] = 2**32 - rng.integers(0, 300, len(start[::3]), dtype=np.uint64)
    result = mine(challenges, bits, start=start, backend="cuda")
    given = zip(challenges, bits.tolist(), start.tolist(), strict=True)
    assert result.nonce.tolist() == [lowest(*puzzle) for puzzle in given]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_finds_hashlibs_nonces(name: str) -> None:
    for device in contract._twin("cuda").devices:
        for length in (32, 44, 47, 41, 0):
            assert tune.is_right(device, VARIANTS[name], noise(length, 7))


def test_the_gpu_finds_the_cpus_nonces_in_a_large_batch() -> None:
    pytest.importorskip("numba")
    challenges = [noise(44, row) for row in range(5000)]
    bits = np.random.default_rng(5).uniform(0, 16, 5000)
    first, second, cpu = (mine(challenges, bits, backend=name) for name in ("cuda", "cuda", "cpu"))
    assert same(first, second)
    assert same(first, cpu)


def test_more_than_32_bits_are_told_apart() -> None:
    result = mine(noise(44, 1), 33.5, backend="cuda")
    value = value_of(noise(44, 1), int(result.nonce[0]))
    assert value <= int(target_limit(33.5)[0])
    assert verify(noise(44, 1), result.nonce, 33.5, backend="reference").all()


def test_ranges_end_where_they_should() -> None:
    ended = mine([b"x" * 44, b"y" * 41], [64, 0], start=2**64 - 300, backend="cuda")
    assert (ended.found.tolist(), ended.tries.tolist()) == ([False, True], [300, 1])
    challenge = noise(41, 8)
    values = [value_of(challenge, 250 + i) for i in range(2000)]
    twin = contract._twin("cuda")
    puzzles = twin.prepare([challenge], None)
    for count in (1, 6, 7, 300, 2000):
        best = min(values[:count])
        for limit, expected in ((best, values.index(best)), (best - 1, count)):
            arrays = [np.array([x], np.uint64) for x in (250, count, limit)]
            assert twin.search(puzzles, np.array([0]), *arrays, None).tolist() == [expected]


def test_a_search_can_be_cancelled_soon() -> None:
    mine(b"warm" * 11, 8, backend="cuda")
    cancel = threading.Event()
    timer = threading.Timer(0.5, cancel.set)
    timer.start()
    began = time.perf_counter()
    result = mine(b"hard" * 11, 64, cancel=cancel, backend="cuda")
    assert time.perf_counter() - began < 0.5 + 10 * CHUNK_S
    assert not result.found[0]
    assert result.tries[0] > 10**8


def test_the_quick_check_finds_everything_right(tmp_path: Path) -> None:
    out = tmp_path / "check.json"
    assert main(["--quick", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["all_right"]
