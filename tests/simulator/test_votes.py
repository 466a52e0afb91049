"""Files of votes: every layout gives the same rows however they are cut; what is wrong is named, with its row."""

from __future__ import annotations

import contextlib
import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powsim.votes import Piece, VotesError, open_votes

VOTES = np.random.default_rng(0).multinomial(50, np.full(7, 1 / 7), 1003).astype(np.int16)
USERS = np.array([f"user {i % 11}" for i in range(1003)])


def lists(values: np.ndarray, kind: str) -> Any:
    flat = pa.array(values.ravel())
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    offsets = np.arange(len(values) + 1) * values.shape[1]
    if kind == "large":
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), flat)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)


def by_class(values: np.ndarray, **more: Any) -> Any:
    return pa.table({**more, **{f"class_{i}": column for i, column in enumerate(values.T)}})


def write(path: Path, layout: str, values: np.ndarray = VOTES, users: Any = USERS) -> dict[str, str]:
    """Write the votes and return what `open_votes` needs to know."""
    if layout == "npy":
        np.save(path, values)
        path.with_suffix(".npy").rename(path)
        return {}
    if layout.startswith("npz"):
        with path.open("wb") as file:
            stored = np.asfortranarray(values) if "columns" in layout else values
            (np.savez_compressed if "packed" in layout else np.savez)(file, other=users[:3], votes=stored, who=users)
        return {"identity": "who"}
    if layout == "classes":
        pq.write_table(by_class(values), path, row_group_size=200)
        return {}
    if layout == "classes and more":
        pq.write_table(by_class(values, who=users, label=values[:, 0]), path, row_group_size=200)
        return {"identity": "who", "key": "class_*"}
    column = lists(values, layout)
    coded = pa.array(users).dictionary_encode() if layout == "large" else users
    pq.write_table(pa.table({"who": coded, "votes": column, "extra": users}), path, row_group_size=400)
    return {"identity": "who"}


LAYOUTS = ["npy", "npz", "npz packed", "npz columns", "classes", "classes and more", "list", "large", "fixed"]


@pytest.mark.parametrize("most", [1, 64, 100_000])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_rows(layout: str, most: int, tmp_path: Path) -> None:
    asked = write(tmp_path / "v", layout)
    source = open_votes(tmp_path / "v", **asked)
    assert (source.rows, source.classes) == VOTES.shape
    assert "int16" in source.about
    pieces: list[Piece] = list(source.pieces(most))
    assert np.concatenate([piece.votes for piece in pieces]).tolist() == VOTES.tolist()
    assert all(piece.votes.dtype == np.int16 and len(piece.votes) <= most for piece in pieces)
    assert [piece.first for piece in pieces] == np.cumsum([0] + [len(piece.votes) for piece in pieces])[:-1].tolist()
    if "identity" in asked:
        assert np.concatenate([piece.identities for piece in pieces]).tolist() == USERS.tolist()
    else:
        assert pieces[0].identities is None


@pytest.mark.parametrize("dtype", ["uint8", ">i4", "uint64", "float16", "float32", ">f8"])
def test_every_type_of_number_comes_through(dtype: str, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VOTES.astype(dtype))
    (piece,) = open_votes(tmp_path / "v.npy").pieces(2000)
    assert piece.votes.dtype == np.dtype(dtype)
    assert (piece.votes == VOTES).all()


def saved(**arrays: Any) -> bytes:
    held = io.BytesIO()
    np.savez(held, **arrays)
    return held.getvalue()


def array(values: Any) -> bytes:
    held = io.BytesIO()
    np.save(held, values)
    return held.getvalue()


def table(**columns: Any) -> bytes:
    held = io.BytesIO()
    pq.write_table(pa.table(columns), held)
    return held.getvalue()


def parquet(written: Any) -> bytes:
    held = io.BytesIO()
    pq.write_table(written, held)
    return held.getvalue()


WHOLE = saved(votes=VOTES, who=USERS)
PACKED = io.BytesIO()
np.savez_compressed(PACKED, votes=VOTES)
FLIPPED = bytearray(WHOLE)
FLIPPED[5000] ^= 1
NO_ROWS = np.zeros((0, 3), np.int16)
held = io.BytesIO()
pq.write_table(by_class(VOTES), held, write_page_checksum=True, use_dictionary=False, compression="none")
SUMMED = bytearray(held.getvalue())
SUMMED[1001] ^= 1
FIXED = parquet(pa.table({"votes": lists(VOTES, "fixed")}))


@pytest.mark.parametrize(
    ("content", "asked", "message"),
    [
        (b"", {}, "is empty"),
        (b"row,votes\n1,2\n", {}, "neither a NumPy file"),
        (b"PK", {}, "broken archive"),
        (b"PK\x05\x06" + b"\0" * 18, {}, "none at all"),
        (b"\x93NUMPY", {}, "cannot read"),
        (b"\x93NUMPY\x01\x00v\x00{'descr': ", {}, "cannot read"),
        (array(VOTES)[:-9], {}, "ends within row 1002 of 1003: it was cut off"),
        (array(VOTES)[:128], {}, "ends within row 0 of 1003"),
        (array(NO_ROWS), {}, "holds no rows"),
        (array(VOTES[:, :1]), {}, "votes for 1 class"),
        (array(VOTES[0]), {}, r"has shape \(7,\): votes are"),
        (array(VOTES > 1), {}, "dtype bool"),
        (array(VOTES + 1j), {}, "dtype complex128"),
        (array(VOTES.astype(object)), {}, "Python objects, which are not loaded"),
        (array(VOTES.astype("U4")), {}, "dtype <U4"),
        (array(VOTES), {"key": "votes"}, "one array without a name"),
        (array(VOTES), {"identity": "who"}, "need .npz"),
        (WHOLE[:9000], {}, "broken archive|cannot read"),
        (bytes(FLIPPED), {}, "CRC"),
        (PACKED.getvalue()[:900] + bytes(50) + PACKED.getvalue()[950:], {}, "cannot read"),
        (saved(a=VOTES, b=VOTES), {}, "2 arrays that could be votes.*a, b"),
        (saved(a=USERS), {}, "0 arrays that could be"),
        (WHOLE, {"key": "other"}, "no array 'other': it has votes, who"),
        (WHOLE, {"identity": "whom"}, "no array 'whom'"),
        (WHOLE, {"key": "who"}, "dtype <U7"),
        (saved(votes=VOTES, who=USERS[1:]), {"identity": "who"}, r"has shape \(1002,\): one identity per row"),
        (saved(votes=VOTES, who=VOTES[:, 0] / 2), {"identity": "who"}, "integers or texts"),
        (saved(votes=VOTES, who=USERS.astype("S")), {"identity": "who"}, "integers or texts"),
        (saved(votes=VOTES, who=USERS.astype(object)), {"identity": "who"}, "integers or texts"),
        (b"PAR1", {}, "cannot read"),
        (FIXED[:-9], {}, "cannot read"),
        (FIXED[:700] + bytes(300) + FIXED[1000:], {}, "cannot read|rows and says"),
        (bytes(SUMMED), {}, "CRC checksum"),
        (table(votes=USERS), {}, "type string: votes are"),
        (table(votes=VOTES[:, 0], x=USERS), {}, "votes for 1 class"),
        (table(a=VOTES[:, 0], x=USERS), {}, r"not every column is one of integers \(it has a, x\)"),
        (table(a=VOTES[:, 0], b=VOTES[:, 1], x=VOTES[:, 1] / 3), {}, "not every column"),
        (table(a=VOTES[:, 0], b=VOTES[:, 1]), {"key": "a,c*"}, r"no column 'c\*': it has a, b"),
        (table(a=VOTES[:, 0], x=USERS), {"key": "*"}, "column 'x' .* has type string"),
        (table(a=VOTES[:, 0], b=VOTES[:, 1] > 3), {"key": "a,b"}, "has type bool"),
        (table(a=VOTES[:, 0], b=VOTES[:, 1]), {"identity": "c"}, "no column 'c'"),
        (table(a=VOTES[:, 0], b=VOTES[:, 1] / 3), {"identity": "b", "key": "a"}, "identities are integers or texts"),
        (table(a=[1, 2, None], b=[1, 2, 3]), {}, "row 2: column 'a' is empty"),
        (table(votes=[[1, 2], [3, 4], None]), {}, "row 2: column 'votes' is empty"),
        (table(votes=[[1, 2], [3], [4, 5]]), {}, "row 1: 1 votes, where row 0 has 2"),
        (table(votes=[[1, 2], [3, None]]), {}, r"row 1: a vote is missing"),
        (table(votes=[["a", "b"]]), {}, "votes are integers or floats"),
        (table(votes=[[1, 2], [3, 4]], who=["a", None]), {"identity": "who"}, "row 1: column 'who' is empty"),
        (table(votes=pa.array([], pa.list_(pa.int16()))), {}, "no rows"),
    ],
)
def test_what_is_wrong_is_named(content: bytes, asked: dict[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(content)
    with pytest.raises(VotesError, match=message) as raised:
        list(open_votes(tmp_path / "v", **asked).pieces(100))
    assert "\n" not in str(raised.value)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), layout=st.sampled_from(LAYOUTS))
def test_any_damage_is_an_error_in_words_or_none(data: st.DataObject, layout: str, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("damaged") / "v"
    asked = write(path, layout, VOTES[:300], USERS[:300])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        near_an_end = st.one_of(st.integers(0, 400), st.integers(-900, -1), st.integers(0, len(content) - 1))
        content[data.draw(near_an_end) % len(content)] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: len(content) - data.draw(st.sampled_from([0, 0, 1, 500]))])
    with contextlib.suppress(VotesError):
        for piece in open_votes(path, **asked).pieces(1000):
            assert len(piece.votes) <= 1000


def test_names_twice_and_files_that_are_none(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "v")
    with pytest.raises(VotesError, match="two columns 'a'"):
        open_votes(tmp_path / "v")
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "none", "No such file"),
        (Path("/dev/zero"), "is a device"),
        (tmp_path / "a\0b", "cannot read"),
    ):
        with pytest.raises(VotesError, match=message):
            open_votes(path)


def test_a_header_that_lies_takes_no_memory(tmp_path: Path) -> None:
    with (tmp_path / "v").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": (10**15, 10)})
        file.write(bytes(2000))
    with pytest.raises(VotesError, match="ends within row 100 of 1000000000000000"):
        list(open_votes(tmp_path / "v").pieces(1000))


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VOTES)
    source = open_votes(tmp_path / "v.npy")
    np.save(tmp_path / "v.npy", VOTES[:500])
    with pytest.raises(VotesError, match="was changed while it was read"):
        list(source.pieces(100))


@pytest.mark.parametrize("layout", ["npy", "npz", "npz packed", "list", "classes"])
def test_memory_does_not_grow_with_the_file(layout: str, tmp_path: Path) -> None:
    values = np.zeros((400_000, 20), np.int16)  # 16 MB
    values[:, 3] = np.random.default_rng(0).integers(0, 50, len(values))
    asked = write(tmp_path / "v", layout, values, np.zeros(len(values), np.int64))
    if layout == "list":  # one row group larger than what may be held
        pq.write_table(pa.table({"votes": lists(values, "list")}), tmp_path / "v", row_group_size=len(values))
        asked = {}
    del values
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        rows = sum(len(piece.votes) for piece in open_votes(tmp_path / "v", **asked).pieces(5000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == 400_000
    assert peak < 4 << 20
    assert pa.total_allocated_bytes() - arrow < 1 << 20


def test_a_member_of_an_archive_may_be_packed_in_any_way(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "v", "w", method) as archive:
            archive.writestr("votes.npy", array(VOTES))
            archive.writestr("readme.txt", "hello")
        (piece,) = open_votes(tmp_path / "v").pieces(5000)
        assert (piece.votes == VOTES).all()
