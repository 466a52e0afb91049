"""The launch layer of the CUDA twin from `mine(backend="cuda")` down, on imagined GPUs (`nogpu/fake_cupy.py`)."""

from __future__ import annotations

import hashlib
import sys
import threading
import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from mining import hexes, lowest, noise, same, value_of
from nogpu.fake_cupy import Machine
from nogpu.machine import cuda, install
from powsim_kernels import BackendUnavailable, mine, sha256, target_limit, verify
from powsim_kernels.sha256 import contract

__all__ = ["cuda", "install"]  # fixtures

Install = Callable[..., Machine]
LENGTHS = (44, 45, 41, 47, 31, 95, 0)


def test_the_gpu_finds_the_cpus_nonces(install: Install) -> None:
    install()
    challenges = [noise(length, seed) for seed in range(12) for length in LENGTHS]
    rng = np.random.default_rng(1)
    bits, start = rng.uniform(0, 9, len(challenges)), rng.integers(0, 2**64 - 2**20, len(challenges), dtype=np.uint64)
    start[::2] = 2**32 - 20
    result = mine(challenges, bits, start=start, backend="cuda")
    assert result.backend == "cuda"
    assert result.nonce.tolist() == [
        lowest(c, b, s) for c, b, s in zip(challenges, bits.tolist(), start.tolist(), strict=True)
    ]
    few = slice(0, 84, 7)  # one length: Numba compiles for each
    assert same(
        mine(challenges[few], bits[few], start=start[few], backend="cuda"),
        mine(challenges[few], bits[few], start=start[few], backend="cpu"),
    )


def test_digests_and_checks_run_on_the_gpu(install: Install) -> None:
    machine = install()
    messages = [noise(length, length) for length in range(201)]
    assert hexes(sha256(messages, backend="cuda")) == [hashlib.sha256(message).hexdigest() for message in messages]
    winner = lowest(messages[7], 8)
    assert verify([messages[7]] * 2, [winner, winner + 1], 8, backend="cuda")[0]
    assert {name for _, name, _ in machine.launched} == {"sha256_messages", "prepare", "mine_tiles"}


def test_nothing_to_do_is_done_without_a_launch(install: Install) -> None:
    machine = install()
    assert sha256([b""], backend="cuda").shape == (1, 32)
    machine.launched.clear()
    assert sha256([], backend="cuda").shape == (0, 32)
    assert mine([], 8, backend="cuda").nonce.shape == (0,)
    assert verify([], [], 8, backend="cuda").shape == (0,)
    assert machine.launched == []


def test_a_range_is_searched_to_its_very_end(cuda: ModuleType) -> None:
    twin = cuda.twin("cuda")
    challenge = noise(44, 1)
    nonce = lowest(challenge, 13)
    limit = value_of(challenge, nonce)
    puzzles = twin.prepare([b"not this one", challenge], 1)
    for count, most, expected in (
        (nonce + 1, limit, nonce),
        (nonce + 1, limit - 1, nonce + 1),
        (nonce, limit, nonce),
        (0, limit, 0),
        (2**16, limit, nonce),
    ):
        arrays = [np.array([x], np.uint64) for x in (0, count, most)]
        assert twin.search(puzzles, np.array([1]), *arrays, None).tolist() == [expected]


@pytest.mark.parametrize("seed", range(2))
def test_real_warps_find_the_same(install: Install, seed: int) -> None:
    install(Machine(names=("A", "B"), lanes=32, seed=seed))
    challenges = [noise(44, row) for row in range(40)]
    result = mine(challenges, 7.5, backend="cuda")
    assert result.nonce.tolist() == [lowest(challenge, 7.5) for challenge in challenges]


def test_a_resumed_search_ends_where_one_search_ends(install: Install) -> None:
    install()
    challenges = [noise(44, seed) for seed in range(5)]
    whole = mine(challenges, 11, backend="cuda")
    part = mine(challenges, 11, limit=700, backend="cuda")
    assert 0 < part.found.sum() < 5
    while not part.found.all():
        part = mine(challenges, 11, start=part.next_start, limit=700, backend="cuda")
    assert np.array_equal(part.nonce, whole.nonce)
    ended = mine([b"x" * 44, b"y" * 44], [64, 0], start=2**64 - 300, backend="cuda")
    assert (ended.found.tolist(), ended.tries.tolist()) == ([False, True], [300, 1])


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_devices_share_one_puzzle_and_many(install: Install, devices: int) -> None:
    machine = install(Machine(names=("A",) * devices))
    hard = noise(44, 3)
    result = mine([hard], 15, backend="cuda")
    assert result.nonce.tolist() == [lowest(hard, 15)]
    many = [noise(length, 5) for length in LENGTHS * 9]
    assert mine(many, 6, backend="cuda").nonce.tolist() == [lowest(c, 6) for c in many]
    assert {device for device, name, _ in machine.launched if name == "mine_tiles"} == set(range(devices))


def test_the_winner_may_lie_on_any_device(install: Install) -> None:
    install(Machine(names=("A", "B", "C")))
    twin = contract._twin("cuda")
    challenge = noise(44, 11)
    values = [value_of(challenge, nonce) for nonce in range(3000)]
    puzzles = twin.prepare([challenge], None)
    for begin in (0, 700, 1500, 2400):
        limit = min(values[begin : begin + 600])
        arrays = [np.array([x], np.uint64) for x in (begin, 600, limit)]
        expected = values.index(limit, begin) - begin
        assert twin.search(puzzles, np.array([0]), *arrays, None).tolist() == [expected]


def test_one_device_can_be_named(install: Install) -> None:
    machine = install(Machine(names=("A", "B")))
    assert mine(b"a" * 44, 5, backend="cuda:1").backend == "cuda:1"
    assert {device for device, *_ in machine.launched} == {1}
    with pytest.raises(
        BackendUnavailable, match=r"'cuda:2' cannot run: CUDA shows 2 devices: use 'cuda:0' to 'cuda:1'"
    ):
        mine(b"a", 5, backend="cuda:2")
    for name in ("cuda:", "cuda:x", "cuda:-1"):
        with pytest.raises(ValueError, match=f"unknown backend '{name}': name a device by its number, as in 'cuda:0'"):
            mine(b"a", 5, backend=name)
    with pytest.raises(ValueError, match="unknown backend 'reference:1'"):
        mine(b"a", 5, backend="reference:1")


def test_every_device_must_pass_the_self_test(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(Machine(names=("A", "B")))
    tested: list[str] = []
    monkeypatch.setattr(contract, "check_answers", lambda twin, name: tested.append(name))
    sha256(b"", backend="cuda")
    assert tested == ["cuda:0", "cuda:1", "cuda"]


def test_breadth_and_first_chunk_grow_with_the_devices(install: Install) -> None:
    install(Machine(names=("A", "B")))
    one, two = contract._twin("cuda:0"), contract._twin("cuda")
    assert one.BREADTH == 8 * 2 * 4 * 4  # 8 x multiprocessors x blocks x warps
    assert (two.BREADTH, two.FIRST_CHUNK) == (2 * one.BREADTH, 2 * one.FIRST_CHUNK)


def test_auto_takes_the_gpu(install: Install) -> None:
    install()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mine(b"a" * 44, 5).backend == "cuda"


def test_where_the_compiler_is_missing_auto_warns_and_takes_the_cpu(install: Install) -> None:
    install(Machine(nvrtc=False))
    said = r"loading the compiler NVRTC: DynamicLibNotFoundError: .*pip install nvidia-cuda-nvrtc.*or use backend='cpu'"
    with pytest.raises(BackendUnavailable, match=said):
        mine(b"a" * 44, 5, backend="cuda")
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match=said + "; backend='auto' uses the CPU") as caught:
            result = mine(b"a" * 44, 5)
        assert caught[0].filename == __file__  # the line that called
        assert (result.backend, result.nonce.tolist()) == ("cpu", [lowest(b"a" * 44, 5)])


def test_wrong_answers_are_never_used(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    monkeypatch.setattr(contract, "ANSWERS", ((b"abc", "00" * 32),))
    with pytest.raises(BackendUnavailable, match="'cuda:0' failed its self-test"):
        mine(b"a", 5, backend="cuda")


def test_no_driver_and_no_device_are_unavailable(install: Install) -> None:
    for machine in (Machine(driver=False), Machine(names=())):
        install(machine)
        with pytest.raises(BackendUnavailable, match=r"no CUDA device or driver was found .*: use backend='cpu'"):
            mine(b"a", 5, backend="cuda")
        assert mine(b"a" * 44, 5).backend == "cpu"


def test_a_driver_that_goes_missing_later_is_named(install: Install) -> None:
    machine = install()
    sha256(b"", backend="cuda")  # opens the devices and tests them
    machine.driver = False
    twin = contract._twin("cuda")
    with pytest.raises(BackendUnavailable, match=r"InsufficientDriver.*: install or update NVIDIA's driver, or use"):
        twin.sha256([b"abc"], None)


def test_a_cupy_that_does_not_load_is_named(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install()

    def broken() -> bool:
        raise ImportError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(sys.modules["cupy"], "is_available", broken)
    with pytest.raises(BackendUnavailable, match=r"cupy does not load \(libcudart.*\): install it anew, or use"):
        mine(b"a", 5, backend="cuda")


def test_a_device_lost_in_a_search_is_named(install: Install) -> None:
    machine = install(Machine(names=("A", "B")))
    sha256(b"", backend="cuda")  # opens the devices and tests them
    machine.lost.add(1)
    with pytest.raises(BackendUnavailable, match=r"device 1 \(B\): CUDARuntimeError: cudaErrorDevices.*nvidia-smi"):
        mine([noise(44, 1)], 15, backend="cuda")
    machine.lost.clear()
    assert mine([noise(44, 1)], 9, backend="cuda").nonce.tolist() == [lowest(noise(44, 1), 9)]


def test_a_kernel_that_fails_is_named(install: Install) -> None:
    machine = install()
    sha256(b"", backend="cuda")  # opens the devices and tests them
    machine.broken.add("mine_tiles")
    with pytest.raises(BackendUnavailable, match=r"failed while searching 1 puzzles on device 0 .*IllegalAddress"):
        mine([noise(44, 1)], 9, backend="cuda")


def test_a_source_that_does_not_compile_is_named(install: Install) -> None:
    install(Machine(refused=lambda options: True))
    with pytest.raises(BackendUnavailable, match=r"CompileException: kern.cu.*update CuPy and NVRTC, or use"):
        mine([noise(44, 1)], 9, backend="cuda")


def test_messages_that_do_not_fit_are_hashed_in_parts(install: Install) -> None:
    machine = install()
    sha256(b"", backend="cuda")  # opens the devices and tests them
    messages = [noise(500, row) for row in range(64)]
    machine.largest, before = 4096, len(machine.launched)
    assert hexes(sha256(messages, backend="cuda")) == [hashlib.sha256(message).hexdigest() for message in messages]
    assert len(machine.launched) - before == 8
    with pytest.raises(BackendUnavailable, match=r"OutOfMemoryError: .*fewer or shorter messages at a time.*'cpu'"):
        sha256([bytes(5000)], backend="cuda")


def test_puzzles_that_do_not_fit_are_refused_clearly(install: Install) -> None:
    machine = install()
    sha256(b"", backend="cuda")  # opens the devices and tests them
    machine.largest = 10_000
    with pytest.raises(BackendUnavailable, match=r"preparing 500 challenges on device 0 .*Out of memory.*fewer"):
        mine([b"%d" % row for row in range(500)], 3, backend="cuda")
    machine.largest = 1 << 30
    assert mine([b"%d" % row for row in range(500)], 3, backend="cuda").found.all()


def test_many_threads_can_mine_at_once(install: Install) -> None:
    install(Machine(names=("A", "B")))
    challenges = [noise(44, row) for row in range(30)]
    expected = [lowest(challenge, 8) for challenge in challenges]
    got: list[list[int]] = []
    workers = [
        threading.Thread(target=lambda: got.append(mine(challenges, 8, backend="cuda").nonce.tolist()))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert got == [expected] * 4


def test_rows_of_every_difficulty_share_a_launch(cuda: ModuleType) -> None:
    twin = cuda.twin("cuda")
    challenges = [noise(44, row) for row in range(64)]
    limits = target_limit(np.linspace(0, 12, 64))
    puzzles = twin.prepare(challenges, None)
    arrays = np.zeros(64, np.uint64), np.full(64, 2**16, np.uint64), limits
    expected = [lowest(c, b) for c, b in zip(challenges, np.linspace(0, 12, 64).tolist(), strict=True)]
    assert twin.search(puzzles, np.arange(64), *arrays, None).tolist() == expected
