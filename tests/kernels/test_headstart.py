"""The loop over hashlib that searches while kernels are compiled, and the machine code that is kept on disk."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mining import lowest, noise, value_of
from powsim_kernels import BackendUnavailable, folders, mine, native
from powsim_kernels.sha256 import absorb, cpu, kernel, self_test
from powsim_kernels.sha256.headstart import SLICE, HeadStart
from powsim_kernels.sha256.ranges import Ranges


class Slow(cpu.Twin):
    """The CPU twin with kernels that take until `release` is set."""

    def __init__(self) -> None:
        super().__init__(None)
        self.release = threading.Event()
        self.asked: list[int] = []

    def kernel(self, position: int) -> object:
        self.asked.append(position)
        assert self.release.wait(30)
        return super().kernel(position)


def numbers(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


@pytest.fixture
def slow() -> Slow:
    return Slow()


def forget() -> None:
    """Drop the compiled code that this process has loaded."""
    for load in (cpu.kernel, kernel.searcher, absorb._compiled):
        load.cache_clear()


@pytest.fixture
def fresh() -> Iterator[None]:
    forget()
    yield
    forget()


def ask(twin: cpu.Twin, challenges: list[bytes], bits: float, count: int) -> list[int]:
    limit = 2 ** (64 - int(bits)) - 1
    rows = np.arange(len(challenges))
    arrays = [numbers(*[value] * len(challenges)) for value in (0, count, limit)]
    return twin.search(twin.prepare(challenges, 1), rows, *arrays, 1).tolist()


def test_easy_puzzles_wait_for_nothing_and_compile_nothing(slow: Slow) -> None:
    challenges = [noise(length, 1) for length in (0, 30, 70)]
    assert ask(slow, challenges, 6, 4096) == [lowest(challenge, 6) for challenge in challenges]
    assert slow.asked == []


def test_the_kernel_goes_on_where_the_loop_stopped(slow: Slow) -> None:
    challenges = [noise(44, seed) for seed in range(40)]
    timer = threading.Timer(0.15, slow.release.set)
    timer.start()
    assert ask(slow, challenges, 15, 1 << 19) == [lowest(challenge, 15) for challenge in challenges]
    assert set(slow.asked) == {12}
    timer.join()
    assert ask(slow, challenges[:3], 15, 1 << 19) == [lowest(challenge, 15) for challenge in challenges[:3]]
    assert set(slow.asked) == {12}


def test_the_loop_ends_at_the_count_and_takes_the_limit_itself() -> None:
    loop = HeadStart(lambda position: None)
    challenge = noise(80, 2)
    nonce = lowest(challenge, 10)
    assert nonce > SLICE
    value = value_of(challenge, nonce)
    for count, limit, expected in [(nonce + 1, value, nonce), (nonce + 1, value - 1, nonce + 1), (nonce, value, nonce)]:
        ranges = Ranges(np.array([0]), numbers(0), numbers(count), numbers(limit))
        index, row, tried = loop.search([1], [challenge], ranges)
        assert (index.tolist(), row, tried) == ([expected], 1, 0)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_range_that_ends_as_the_kernel_gets_ready_is_over(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = HeadStart(lambda position: None)
    loop.spent_s = 1.0
    monkeypatch.setattr(loop, "ready", lambda positions: True)
    arrays = [numbers(*[value] * rows) for value in (0, SLICE, 0)]
    index, row, tried = loop.search([1], [b"unsolved"], Ranges(np.zeros(rows, np.int64), *arrays))
    assert (index.tolist(), row, tried) == ([SLICE] * rows, 1, 0)


def test_empty_ranges_are_searched_to_their_end() -> None:
    twin = cpu.twin(cpu.paths()[0])
    arrays = [numbers(0, 2**14, 5), numbers(0, 0, 4096), numbers(*[2**56 - 1] * 3)]
    found = twin.search(twin.prepare([b"x"], 1), np.zeros(3, np.int64), *arrays, 1)
    assert found.tolist() == [0, 0, lowest(b"x", 8, 5) - 5]


FORK = """
import multiprocessing, sys, threading, time
import powsim_kernels
from powsim_kernels.sha256 import cpu

def child(queue):
    queue.put(powsim_kernels.mine(b"x" * 20, 20).nonce.tolist())  # another position than the parent's
    queue.put(powsim_kernels.mine(b"x" * 44, 20).nonce.tolist())
    queue.put(powsim_kernels.mine(b"x" * 44, 8, backend=cpu.paths()[-1]).nonce.tolist())

powsim_kernels.mine(b"", 1)  # a fork while another thread imports NumPy's last parts hangs any program
worker = threading.Thread(target=powsim_kernels.mine, args=(b"x" * 44, 22))
worker.start()
time.sleep(float(sys.argv[1]))
context = multiprocessing.get_context("fork")
queue = context.Queue()
process = context.Process(target=child, args=(queue,))
process.start()
print(*[queue.get(timeout=20) for _ in range(3)])
process.join(20)
worker.join()
sys.exit(process.exitcode)
"""


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.15, 1.5])
def test_a_forked_process_mines_whatever_its_parent_was_doing(delay: float, tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", FORK, str(delay)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    path = cpu.paths()[0]
    nonces = [mine(b"x" * length, bits, backend=path).nonce.tolist() for length, bits in ((20, 20), (44, 20), (44, 8))]
    assert done.stdout.split("\n")[0] == " ".join(map(str, nonces))


def test_a_kernel_that_cannot_be_compiled_is_told_and_does_not_go_on_for_ever() -> None:
    def fail(position: int) -> None:
        raise BackendUnavailable("LLVM says no")

    loop = HeadStart(fail)
    ranges = Ranges(np.array([0]), numbers(0), numbers(2**40), numbers(0))
    began = time.perf_counter()
    with pytest.raises(BackendUnavailable, match="LLVM says no"):
        loop.search([12], [b""], ranges)
    assert time.perf_counter() - began < 5


def test_wrong_code_never_mines(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(*arguments: object) -> None:
        """Find nothing, whatever there is."""

    monkeypatch.setattr(kernel, "searcher", lambda *_: blind)
    name = cpu.paths()[0]
    with pytest.raises(BackendUnavailable, match=rf"'{name}' failed its self-test: nonce \d+ came out, not \d+: its"):
        mine(b"", 1, backend=name)


def test_wrong_midstates_never_mine(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(*arguments: object) -> None:
        """Absorb nothing."""

    monkeypatch.setattr(native, "load", lambda *_: blind)
    with pytest.raises(BackendUnavailable, match=r"failed its self-test: wrong midstates .* remove .*native"):
        mine(bytes(64 * 40), 1, backend=cpu.paths()[0])


def test_a_cpu_without_any_path_names_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "host", lambda: native.Target("riscv64-unknown-linux-gnu", "generic", ""))
    with pytest.raises(BackendUnavailable, match=r"has none of avx512, .*neon; use backend='reference'"):
        cpu.Twin(None).kernel(12)
    with pytest.raises(BackendUnavailable, match="use backend='reference'"):
        self_test("cpu")


def test_code_that_llvm_refuses_is_unavailable(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "build", lambda *_: "no IR")
    monkeypatch.setattr(native, "kept", lambda *_: None)
    with pytest.raises(BackendUnavailable, match=r"LLVM could not compile it .* use backend='reference'"):
        mine(b"", 1, backend=cpu.paths()[0])


COLD = """
import sys, time
import numpy
import powsim_kernels
from powsim_kernels.sha256 import cpu
began = time.perf_counter()
first = powsim_kernels.mine(b"first", 8)
easy = time.perf_counter() - began
assert "llvmlite" not in sys.modules and "numba" not in sys.modules
began = time.process_time()
cpu.twin("cpu").kernel(12)
ready = time.process_time() - began
assert "numba" not in sys.modules
print(easy, ready, int(first.nonce[0]))
"""


def test_the_first_puzzle_is_solved_at_once_and_kernels_are_soon_ready(tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)}
    for most_s in (2.0, 0.8):  # CPU seconds, twice the target each, because the machine is shared: cold, then kept
        command = [sys.executable, "-c", COLD]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        easy, ready, nonce = (float(word) for word in done.stdout.split())
        assert nonce == lowest(b"first", 8)
        assert easy < 0.2
        assert ready < most_s
    assert list(tmp_path.rglob("powsim/native/*/*"))


@pytest.fixture
def folder(fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders.cache_folder.cache_clear()
    yield tmp_path
    folders.cache_folder.cache_clear()


def test_what_is_kept_comes_back_and_what_is_damaged_does_not(folder: Path) -> None:
    assert folders.kept("native", "code") is None
    folders.keep("native", "code", b"\x00machine code")
    assert folders.kept("native", "code") == b"\x00machine code"
    (file,) = folder.rglob("code")
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:10], b"", whole[:-1] + b"x"):
        file.write_bytes(damaged)
        assert folders.kept("native", "code") is None
    folders.keep("native", "code", b"again")
    assert folders.kept("native", "code") == b"again"
    assert [path.name for path in file.parent.iterdir()] == ["code"]  # nothing temporary is left


def test_a_cache_that_cannot_be_written_costs_time_only(folder: Path) -> None:
    (folder / "powsim").write_text("a file where the folder should be")
    folders.keep("native", "code", b"x")
    assert folders.kept("native", "code") is None
    assert mine(b"x", 3, backend=cpu.paths()[0]).nonce.tolist() == [lowest(b"x", 3)]


def test_kept_code_answers_to_its_own_name_only(folder: Path) -> None:
    for name in ("one", "two"):
        folders.keep("native", name, name.encode())
    one, two = (next(folder.rglob(name)) for name in ("one", "two"))
    two.write_bytes(one.read_bytes())
    assert folders.kept("native", "one") == b"one"
    assert folders.kept("native", "two") is None


def test_a_user_without_a_home_mines_and_keeps_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    folders.cache_folder.cache_clear()
    assert folders.cache_folder("native") is None
    folders.keep("native", "code", b"x")
    assert folders.kept("native", "code") is None
    assert mine(b"x", 3, backend=cpu.paths()[0]).nonce.tolist() == [lowest(b"x", 3)]


def test_damaged_machine_code_is_compiled_again(folder: Path) -> None:
    name = cpu.paths()[0]
    assert mine(b"x", 3, backend=name).nonce.tolist() == [lowest(b"x", 3)]
    files = list(folder.rglob("native/*/*"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:-100])
    forget()
    assert mine(b"x", 3, backend=name).nonce.tolist() == [lowest(b"x", 3)]
