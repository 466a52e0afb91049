"""Banks on disk: what is read is what was written, and whatever cannot be a bank is refused in words."""

from __future__ import annotations

import io
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banks import made_bank, made_run
from powsim.bank import Bank, Run
from powsim.bank.checked import BankError
from powsim.bank.files import compact, read_bank, read_run, shipped_bank, shipped_names, write_bank, write_run

STUDY = {"task": "made-up", "attacks": ("a", "b"), "queries": 96}


@pytest.fixture(scope="module")
def bank() -> Bank:
    return made_bank(2, queries=96, copies=3)


@pytest.fixture(scope="module")
def content(bank: Bank, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("bank") / "bank.npz"
    write_bank(path, bank)
    return path.read_bytes()


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if hasattr(a, "__dataclass_fields__"):
        return all(same(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    return bool(a == b)


def changed(content: bytes, path: Path, about: dict[str, Any] | None = None, **arrays: np.ndarray | None) -> Path:
    """Write the file with some arrays and metadata replaced, or left out where None."""
    with np.load(io.BytesIO(content)) as members:
        held = {name: members[name] for name in members.files}
    text = json.loads(str(held["about"])) | (about or {})
    held["about"] = np.array(json.dumps({key: value for key, value in text.items() if value is not None}))
    held |= arrays
    np.savez(path, **{name: array for name, array in held.items() if array is not None})  # type: ignore[arg-type]
    return path


def test_a_bank_comes_back_as_it_was(bank: Bank, tmp_path: Path) -> None:
    write_bank(tmp_path / "deep" / "bank.npz", bank)
    again = read_bank(tmp_path / "deep" / "bank.npz")
    assert same(again, bank)
    assert same(again.runs[1].recordings[0].votes, bank.runs[1].recordings[0].votes)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["bank.npz"]
    write_bank(tmp_path / "again.npz", again)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "deep" / "bank.npz").read_bytes()


def test_votes_of_up_to_255_teachers_take_a_byte_and_no_pickle_is_needed(content: bytes, tmp_path: Path) -> None:
    with np.load(io.BytesIO(content), allow_pickle=False) as members:
        assert members["0/pool/votes"].dtype == np.uint8
        assert members["0/0/knn"].dtype == np.uint16
    many = made_bank(1, queries=8, teachers=900, copies=1)
    write_bank(tmp_path / "many.npz", many)
    assert same(read_bank(tmp_path / "many.npz"), many)


def test_arrays_of_a_read_bank_cannot_be_changed_by_accident(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bank.npz").write_bytes(content)
    with pytest.raises(ValueError, match="read-only"):
        read_bank(tmp_path / "bank.npz").runs[0].pool.votes[0, 0] = 1


def test_a_run_comes_back_for_its_own_study_alone(tmp_path: Path) -> None:
    run = made_run(5, queries=0, copies=2)  # no query was asked yet
    write_run(tmp_path / "run.npz", run, STUDY)
    assert same(read_run(tmp_path / "run.npz", STUDY), run)
    with pytest.raises(BankError, match=r"run\.npz' belongs to another study: choose"):
        read_run(tmp_path / "run.npz", STUDY | {"queries": 97})
    with pytest.raises(BankError, match="format 'powsim-bank-run-1', not powsim-bank-1"):
        read_bank(tmp_path / "run.npz")


def test_a_seed_of_14_attacks_is_small(tmp_path: Path) -> None:
    """Real votes agree more than these, and pack tighter."""
    bank = made_bank(
        1, originals=300, copies=10, agreement={f"a{i}": 0.5 + 0.03 * i for i in range(13)} | {"standard": 0.82}
    )
    write_bank(tmp_path / "bank.npz", bank)
    write_bank(tmp_path / "compact.npz", compact(bank))
    assert (tmp_path / "bank.npz").stat().st_size < 700_000
    assert (tmp_path / "compact.npz").stat().st_size < 560_000
    for name in ("entropy", "gap"):
        rounded, exact = (getattr(which.runs[0].pool, name) for which in (read_bank(tmp_path / "compact.npz"), bank))
        np.testing.assert_allclose(rounded, exact, rtol=2**-11)
        assert (rounded != exact).any()
    assert same(compact(bank).runs[0].pool.votes, bank.runs[0].pool.votes)


@pytest.mark.parametrize("at", [0, 1, 100, 0.3, 0.9, -1])
def test_a_file_that_was_cut_off_is_refused(content: bytes, tmp_path: Path, at: float) -> None:
    end = int(at * len(content)) if isinstance(at, float) else at
    (tmp_path / "cut.npz").write_bytes(content[:end])
    with pytest.raises(BankError, match=r"cut\.npz' is (broken \(|no bank: )"):
        read_bank(tmp_path / "cut.npz")


def test_a_flipped_bit_is_seen(content: bytes, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    seen = 0
    for at in rng.integers(0, len(content), 60):
        broken = bytearray(content)
        broken[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "flipped.npz").write_bytes(broken)
        try:
            read_bank(tmp_path / "flipped.npz")
        except BankError:
            seen += 1
    assert seen >= 45  # the others hit fields of the archive that nobody reads


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"about": {"format": "powsim-bank-9"}}, "has format 'powsim-bank-9', not powsim-bank-1: this version"),
    ({"about": {"format": None}}, "has format None"),
    ({"about": {"runs": []}}, "holds no run"),
    ({"about": {"teachers": "25"}}, "teachers is '25', not of type int"),
    ({"about": {"teachers": 24}}, "row 0 of votes adds up to 25, not to 24"),
    ({"about": {"sigma": -1.0}}, "sigma = -1.0: a positive number"),
    ({"about": {"delta": 1.0}}, "delta = 1.0: it must lie between"),
    ({"about": {"seconds_per_query": None}}, "seconds_per_query is None"),
    ({"about": {"metering_s_per_query": -1.0}}, "metering_s_per_query = -1.0"),
    ({"about": {"provenance": ["x"]}}, "provenance is no table"),
    ({"about": {"runs": [{"seed": 1}]}}, "run 0 has no proper seed"),
    ({"0/pool/votes": None}, "has no array 0/pool/votes"),
    ({"1/2/gap": np.zeros(96, np.int8)}, "array 1/2/gap has dtype int8: float32"),
    ({"0/pool/votes": np.full((180, 10), 2.5)}, "array 0/pool/votes has dtype float64: uint16"),
    ({"0/pool/votes": np.full((180, 10), -1)}, "array 0/pool/votes holds -1: counts lie between 0 and 65535"),
    ({"0/pool/votes": np.full((180, 10), 70000)}, "holds 70000"),
    ({"0/0/votes": np.full((96, 10), 2, np.uint8)}, "seed 0, standard: row 0 of votes adds up to 20, not to 25"),
    ({"0/0/votes": np.zeros((96, 9), np.uint8)}, r"votes have shape \(96, 9\): \(96, 10\)"),
    ({"0/0/votes": np.zeros(96, np.uint8)}, r"votes have shape \(96,\)"),
    ({"0/0/votes": np.array([["a"] * 10] * 96)}, "dtype <U1"),
    ({"0/0/entropy": np.zeros(95, np.float32)}, r"seed 0, standard: entropy has shape \(95,\): \(96,\)"),
    ({"0/0/entropy": np.full(96, np.nan, np.float32)}, r"entropy\[0\] = nan is no share"),
    ({"0/0/accuracy": np.array([1.5])}, r"standard: accuracy\[0\] = 1.5 is no share"),
    ({"0/0/checkpoints": np.array([97])}, "checkpoints must rise and lie within the 96 queries"),
    ({"0/pool/original": np.zeros(180, np.int32)}, "original 0 stands in both halves: split by originals"),
    ({"0/pool/user": np.ones(180, np.bool_)}, "0 queries calibrate and 180 are the users"),
    ({"0/pool/user": np.ones(180, np.uint8)}, "dtype uint8: bool"),
    ({"0/pool/classes": np.full(180, 10, np.uint8)}, "class 10: there are only 10, counted from 0"),
    ({"0/pool/classes": np.full(179, 1, np.uint8)}, r"classes have shape \(179,\)"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_wrong_values_are_named(content: bytes, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = changed(content, tmp_path / "wrong.npz", **change)
    with pytest.raises(BankError, match=message) as raised:
        read_bank(path)
    assert "wrong.npz" in str(raised.value)


def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BankError, match=r"cannot read .*none\.npz': No such file"):
        read_bank(tmp_path / "none.npz")
    with pytest.raises(BankError, match="is a folder, not a file"):
        read_bank(tmp_path)
    np.savez(tmp_path / "other.npz", votes=np.zeros((3, 2)))
    with pytest.raises(BankError, match=r"other\.npz' is broken \("):
        read_bank(tmp_path / "other.npz")
    np.savez(tmp_path / "pickled.npz", about=np.array({"format": "powsim-bank-1"}))
    with pytest.raises(BankError, match="allow_pickle=False"):
        read_bank(tmp_path / "pickled.npz")


def test_what_cannot_be_read_is_not_written(bank: Bank, tmp_path: Path) -> None:
    run = bank.runs[0]
    for wrong, message in (
        (replace(bank, runs=()), "holds no run"),
        (replace(bank, runs=(run, run)), r"seeds \[0, 0\]: each seed may stand once"),
        (replace(bank, runs=(run, replace(bank.runs[1], recordings=run.recordings[:-1]))), "seed 1 has other attacks"),
        (replace(bank, runs=(replace(run, recordings=run.recordings[:1] * 2),)), "each may stand once"),
        (replace(bank, runs=(replace(run, victim_accuracy=1.2),)), "victim_accuracy = 1.2"),
    ):
        with pytest.raises(BankError, match=message):
            write_bank(tmp_path / "bank.npz", wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file(bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bank(tmp_path / "bank.npz", bank)
    before = (tmp_path / "bank.npz").read_bytes()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("powsim.sweeps.store.os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_bank(tmp_path / "bank.npz", replace(bank, task="other"))
    assert (tmp_path / "bank.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["bank.npz"]


def test_shipped_banks_are_whole() -> None:
    with pytest.raises(BankError, match="no bank 'nonsense' is shipped: there is"):
        shipped_bank("nonsense")
    for name in shipped_names():
        assert shipped_bank(name).provenance["source"] == "precomputed"
        assert isinstance(shipped_bank(name).runs[0], Run)
