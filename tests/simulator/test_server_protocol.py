"""The gate for real: what is mined for it passes once, and whatever else passes never."""

from __future__ import annotations

import pytest

from powsim.server import Gate, measured_costs
from powsim.server.costs import costs_of, families, source_of
from powsim.server.protocol import EXPIRED, FORGED, REPLAYED, VALID, WRONG, solved
from powsim_kernels import mine, verify

WHO, WHAT = b"alice", b"a picture"


def solution(challenge: bytes, bits: float) -> int:
    return int(mine([challenge], bits).nonce[0])


@pytest.fixture
def gate() -> Gate:
    return Gate(9.5, 60.0)


def test_a_mined_solution_passes_once(gate: Gate) -> None:
    challenge = gate.mint(WHO, WHAT, 100.0)
    nonce = solution(challenge, 9.5)
    assert gate.verify(challenge, nonce, WHO, WHAT, 101.0) == VALID
    assert gate.verify(challenge, nonce, WHO, WHAT, 102.0) == REPLAYED
    assert Gate(9.5, 60.0, seen_store=False).held == 0


def test_without_the_store_a_solution_passes_until_it_expires() -> None:
    gate = Gate(0.0, 60.0, seen_store=False)
    challenge = gate.mint(WHO, WHAT, 0.0)
    assert [gate.verify(challenge, 1, WHO, WHAT, t) for t in (1.0, 2.0, 60.0)] == [VALID] * 3
    assert gate.verify(challenge, 1, WHO, WHAT, 60.001) == EXPIRED


def test_a_wrong_nonce_is_wrong_and_leaves_the_challenge_good(gate: Gate) -> None:
    challenge = gate.mint(WHO, WHAT, 0.0)
    nonce = solution(challenge, 9.5)
    assert gate.verify(challenge, nonce - 1 if nonce else 1, WHO, WHAT, 1.0) == WRONG
    assert gate.verify(challenge, nonce, WHO, WHAT, 1.0) == VALID


def test_a_challenge_is_bound_to_caller_query_and_gate(gate: Gate) -> None:
    challenge = gate.mint(WHO, WHAT, 0.0)
    nonce = solution(challenge, 9.5)
    for who, what in ((b"bob", WHAT), (WHO, b"another"), (WHO + b"a", WHAT[1:])):
        assert gate.verify(challenge, nonce, who, what, 1.0) == FORGED
    assert Gate(9.5, 60.0).verify(challenge, nonce, WHO, WHAT, 1.0) == FORGED
    assert gate.verify(challenge, nonce, WHO, WHAT, 1.0) == VALID


def test_no_changed_byte_of_a_challenge_is_accepted() -> None:
    gate = Gate(0.0, 60.0)
    challenge = gate.mint(WHO, WHAT, 0.0)
    for place in range(len(challenge)):
        changed = bytearray(challenge)
        changed[place] ^= 1
        assert gate.verify(bytes(changed), 1, WHO, WHAT, 1.0) == FORGED
    for bad in (b"", challenge[:-1], challenge + b"x", challenge[1:]):
        assert gate.verify(bad, 1, WHO, WHAT, 1.0) == FORGED


def test_work_done_ahead_is_good_only_until_expiry(gate: Gate) -> None:
    challenge = gate.mint(WHO, WHAT, 0.0)
    nonce = solution(challenge, 9.5)
    assert gate.verify(challenge, nonce, WHO, WHAT, 60.5) == EXPIRED


def test_the_store_forgets_what_has_expired() -> None:
    gate = Gate(0.0, 60.0)
    for second in range(300):
        assert gate.verify(gate.mint(WHO, WHAT, second), 1, WHO, WHAT, second) == VALID
    assert gate.held == 61
    early = gate.mint(WHO, WHAT, 300.0)
    assert gate.verify(early, 1, WHO, WHAT, 300.0) == VALID
    assert gate.verify(early, 1, WHO, WHAT, 359.9) == REPLAYED


@pytest.mark.parametrize("bits", [0.0, 3.0, 7.3])
def test_solved_agrees_with_the_kernel(bits: float) -> None:
    nonces = list(range(200))
    challenge = bytes(range(44))
    assert [solved(challenge, n, bits) for n in nonces] == verify([challenge] * 200, nonces, bits).tolist()


def test_measured_costs_are_of_the_size_that_the_table_states() -> None:
    here, stated = measured_costs(steps=500), costs_of("sha256-hashcash", {})
    for name in ("mint_s", "check_s", "verify_s"):
        assert 0 < getattr(here, name) < 50 * getattr(stated, name), name
    assert here.check_s > stated.check_s / 50
    assert here.entry_bytes == pytest.approx(stated.entry_bytes, rel=0.5)


def test_every_family_has_costs_and_a_source() -> None:
    assert "sha256-hashcash" in families()
    for family in families():
        costs = costs_of(family, {"check_s": 1.0, "mint_s": None})
        assert costs.check_s == 1.0
        assert 0 < costs.mint_s < 0.01
        assert 0 < costs.verify_s < 0.01
        assert len(source_of(family)) > 20
