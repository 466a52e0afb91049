"""Every CPU path against hashlib and the others, and the plans they run."""

from __future__ import annotations

import hashlib
import re
from itertools import product

import numpy as np
import pytest
from scipy import stats

from mining import exact_accepted, hexes, lowest, noise, value_of
from powsim_kernels import BackendUnavailable, mine, native, verify
from powsim_kernels.sha256 import absorb, cpu, kernel, lanes, ranges, reference
from powsim_kernels.sha256.kernel import Form
from powsim_kernels.sha256.plan import plan

PATHS = cpu.paths()


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


def test_cpu_paths_agree_from_any_start() -> None:
    rng = np.random.default_rng(21)
    challenges = [noise(int(length), i) for i, length in enumerate(rng.choice([0, 31, 44, 45, 47, 64, 111], 1000))]
    bits, start = rng.uniform(0, 16, 1000), rng.integers(0, 2**63, 1000, dtype=np.uint64)
    start[:100] = 2**32 - rng.integers(1, 5000, 100, dtype=np.uint64)  # the carry into the high half
    results = [mine(challenges, bits, start=start, backend=path) for path in PATHS]
    assert results[0].found.all()
    assert verify(challenges, results[0].nonce, bits).all()
    assert all(np.array_equal(results[0].nonce, other.nonce) for other in results[1:])


def test_an_unknown_or_missing_path_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"unknown backend 'cpu:mmx': the CPU miner has cpu:avx512, cpu:sha-ni"):
        mine(b"", 1, backend="cpu:mmx")
    monkeypatch.setattr(native, "host_features", lambda: {"sse2": True})
    monkeypatch.setattr(native, "host", lambda: native.Target("x86_64-pc-linux", "x86-64", "+sse2"))
    for path, lacks in (("avx2", "has no avx2"), ("sha-ni", "has no sha"), ("neon", "is no aarch64")):
        cpu.twin.cache_clear()
        with pytest.raises(BackendUnavailable, match=rf"'cpu:{path}' cannot run: this CPU {lacks}; use backend='cpu'"):
            cpu.twin(f"cpu:{path}")
    assert cpu.paths() == ["cpu:sse2"]
    cpu.twin.cache_clear()


@pytest.mark.slow
def test_ten_thousand_puzzles_of_every_length_and_fractional_bits_on_every_path() -> None:
    rng = np.random.default_rng(22)
    fits = [length for length in range(201) if length % 64 <= 47]
    challenges = [noise(int(length), 10_000 + i) for i, length in enumerate(rng.choice(fits, 10_000))]
    bits = rng.uniform(0, 17, 10_000)
    bits[::50] = rng.uniform(17, 20, 200)  # few of the hardest: they would take four fifths of the time
    bits[::4] = np.rint(bits[::4])
    results = [mine(challenges, bits, backend=path) for path in PATHS]
    first = results[0].nonce
    accepted = [exact_accepted(b) for b in bits.tolist()]
    values = [value_of(c, n) for c, n in zip(challenges, first.tolist(), strict=True)]
    assert all(value < limit for value, limit in zip(values, accepted, strict=True))  # each solves, by hashlib
    for row in np.flatnonzero(bits < 11).tolist():  # and is the lowest: half of them by hashlib alone
        assert first[row] == lowest(challenges[row], float(bits[row]))
    assert all(np.array_equal(first, other.nonce) for other in results[1:])
    # At least this many tries have a chance of (1 - p)^(tries - 1), which, spread over each step, is uniform.
    p, tries = np.array([limit / 2**64 for limit in accepted]), results[0].tries.astype(np.float64)
    chance = (1 - p) ** (tries - 1) * (1 - p * rng.random(10_000))
    assert stats.chisquare(np.histogram(chance, 50, (0, 1))[0]).pvalue > 1e-3


@pytest.mark.parametrize("form", [Form("avx512", 16, 1), Form("avx512", 16, 2), Form("avx2", 8, 2)], ids=str)
def test_wider_forms_find_hashlibs_nonces_where_llvm_splits_their_vectors(form: Form) -> None:
    # What AVX-512 machines run, but for its three-word instruction: the logic of 16 lanes on any CPU.
    call = kernel.searcher(form, native.host(cpu.AVX512), 12)
    challenge = noise(44, 3)
    for bits in (0.5, 4.2, 9.0, 13.7):
        limit = exact_accepted(bits) - 1
        arrays = [np.array([value], np.uint64) for value in (7, 2**18, limit)]
        asked = ranges.Ranges(np.array([0]), *arrays)
        found = ranges.search(lambda _: call, ranges.prepare([challenge]), asked, 1)
        assert found.tolist() == [lowest(challenge, bits, 7) - 7]


def test_each_form_is_kept_under_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr(native, "load", lambda function, module, *_: names.append(module))
    forms = [Form("avx2", 8, 1), Form("avx2", 8, 2), Form("avx2", 16, 1), Form("avx2", 8, 1, True), Form("sse2", 8, 1)]
    for form in forms:
        for position in (1, 12):
            kernel.searcher.__wrapped__(form, native.host(), position)
    assert len(set(names)) == 2 * len(forms)


@pytest.mark.parametrize("most", [absorb.FEW, 0], ids=["plain", "compiled"])
def test_midstates_are_hash_values_after_whole_blocks(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absorb, "FEW", most)
    challenges = [noise(length, length) for length in (5, 64, 130, 63, 64 * 5 + 47)]
    states = absorb.midstates(challenges, np.array([0, 1, 2, 0, 5]))
    for challenge, state in zip(challenges, states.tolist(), strict=True):
        expected = reference.INITIAL
        for at in range(0, len(challenge) // 64 * 64, 64):
            expected = reference.compress(expected, challenge[at : at + 64])
        assert tuple(state) == expected


def test_a_challenge_of_a_megabyte_is_mined_like_any_other() -> None:
    challenge = noise(2**20 + 17, 4)
    assert mine(challenge, 6, backend=PATHS[0]).nonce.tolist() == [lowest(challenge, 6)]


def test_the_three_word_instructions_have_the_truth_tables_of_the_functions() -> None:
    for x, y, z in product((0, 1), repeat=3):
        place = 4 * x + 2 * y + z  # as Intel's manual numbers the bits of vpternlog's immediate
        assert lanes.XOR3 >> place & 1 == x ^ y ^ z
        assert lanes.CHOOSE >> place & 1 == (y if x else z)
        assert lanes.MAJORITY >> place & 1 == (x + y + z >= 2)


TARGETS = {
    "avx512": ("x86_64-unknown-linux-gnu", "sapphirerapids", r"vp(addd|rord|ternlogd|srld)\b"),
    "neon": ("aarch64-unknown-linux-gnu", "neoverse-n1", r"(add|shl|sri|ushr|usra|eor|and|bic|orr|bsl|bif|bit)\b"),
}


@pytest.mark.parametrize("path", TARGETS)
@pytest.mark.parametrize("position", [9, 12, 13])
def test_loops_for_other_machines_hold_the_operations_of_the_plan_and_spill_nothing(path: str, position: int) -> None:
    triple, name, operations = TARGETS[path]
    shape = cpu.PATHS[path]
    text = kernel.build(Form(path, shape.lanes, 1, path == "avx512"), position)
    machine = native.machine(native.Target(triple, name, ""))
    loop = longest_loop(machine.emit_assembly(native.llvm.parse_assembly(text)))
    counted = sum(bool(re.match(operations, line)) for line in loop)
    assert counted > 1000
    if path == "avx512":
        # The next word and the test are the two that plan.cost adds; LLVM may do them by other instructions.
        assert plan(position).cost - 2 <= counted <= plan(position).cost + 2
        assert not [line for line in loop if "rsp" in line and re.match(r"v?mov\w+\s+%zmm", line)]  # no spilled vector


def longest_loop(assembly: str) -> list[str]:
    """Return the instructions of the innermost loop of more than 300 lines."""
    lines = [line.split("#")[0].split("//")[0].strip() for line in assembly.splitlines()]
    labels = {line[:-1]: i for i, line in enumerate(lines) if re.fullmatch(r"\.L\w+:", line)}
    loops = []
    for i, line in enumerate(lines):
        jump = re.match(r"(?:j|b|cb|tb)\S*\s+(?:.*,\s*)?(\.L\w+)$", line)
        if jump and labels.get(jump[1], i) < i - 300:
            loops.append(lines[labels[jump[1]] : i])
    return [line for line in min(loops, key=len) if line and not line.startswith(".")]


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
    assert max(steps.table.values()) < kernel.TABLE


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
    assert [plan(position).cost for position in (1, 9, 11, 12, 13)] == [1487, 1327, 1271, 1243, 1215]
