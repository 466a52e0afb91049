"""Banks on disk: NumPy's .npz without pickles. Arrays under `run/attack/name`, everything else as JSON text in `about`.

Votes are stored as uint8 where they fit, column by column, which packs tighter; entropy and gap as float32. A file is
whole or not there. The same bank gives the same bytes.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim.bank.checked import BankError, check_bank, check_run
from powsim.bank.records import Bank, Pool, Recording, Run
from powsim.files import read_file, reason
from powsim.text import shown
from powsim.votes.arrays import FAULTS

BANK, RUN = "powsim-bank-1", "powsim-bank-run-1"
LARGEST = 1 << 30  # bytes of a file, and of what it unpacks to
DTYPES: dict[str, type[np.generic]] = {
    "votes": np.uint16,
    "knn": np.uint16,
    "entropy": np.float32,
    "gap": np.float32,
    "classes": np.uint16,
    "original": np.int32,
    "user": np.bool_,
    "checkpoints": np.int64,
    "accuracy": np.float64,
    "fidelity": np.float64,
}
FIGURES = ("victim_accuracy", "teacher_accuracy", "ensemble_accuracy")
PLAIN: dict[str, type] = {
    "task": str,
    "real": bool,
    "outside": str,
    "classes": int,
    "teachers": int,
    "sigma": float,
    "delta": float,
    "neighbours": int,
    "knn_sigma": float,
    "seconds_per_query": float,
    "metering_s_per_query": float,
}
"""Fields of a bank that are no arrays."""

Arrays = dict[str, NDArray[Any]]


def write_bank(path: Path | str, bank: Bank) -> None:
    """Write a study whole or not at all. Raises BankError for values that cannot be, OutputError where it cannot."""
    check_bank(bank)
    about: dict[str, Any] = {"format": BANK, **{name: getattr(bank, name) for name in PLAIN}}
    about |= {"provenance": bank.provenance, "runs": [_figures(run) for run in bank.runs]}
    arrays: Arrays = {}
    for number, run in enumerate(bank.runs):
        arrays |= _packed(run, f"{number}/")
    _write(Path(path), about, arrays)


def read_bank(path: Path | str) -> Bank:
    """Return the study in a file. Raises BankError naming the file for one that is missing, broken or wrong."""
    return _read_bank(_content(Path(path)), _name(Path(path)))


def write_run(path: Path, run: Run, study: Mapping[str, Any]) -> None:
    """Write one seed of a study that goes on. study: what was asked, as JSON values; `read_run` asks for the same."""
    about = {"format": RUN, "study": _plain(study), "runs": [_figures(run)]}
    _write(path, about, _packed(run, "0/"))


def read_run(path: Path, study: Mapping[str, Any]) -> Run:
    """Return the seed in a file. Raises BankError, also where the file was written for another study."""
    name = _name(path)
    about, arrays = _opened(_content(path), RUN, name)
    if about.get("study") != _plain(study):
        raise BankError(f"{name} belongs to another study: choose an empty or new folder")
    run = _run(about, arrays, 0, name)
    teachers, neighbours = (int(counts[:1].sum()) for counts in (run.pool.votes, run.pool.knn))
    with _named(name):
        return check_run(run, run.pool.votes.shape[-1], teachers, neighbours)


def compact(bank: Bank) -> Bank:
    """Return the bank with entropy and gap rounded to 11 bits, to 1 in 2,048 of themselves: a fifth less on disk."""

    def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
        bits = np.asarray(values, np.float32).view(np.uint32)
        return ((bits + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)

    def of(queries: Any) -> Any:
        return replace(queries, entropy=rounded(queries.entropy), gap=rounded(queries.gap))

    runs = (replace(run, pool=of(run.pool), recordings=tuple(map(of, run.recordings))) for run in bank.runs)
    return replace(bank, runs=tuple(runs))


@functools.cache
def shipped_bank(name: str = "digits16") -> Bank:
    """Return a bank that comes with the package; its provenance says "precomputed". Raises BankError."""
    known = shipped_names()
    if name not in known:
        raise BankError(f"no bank {shown(name)} is shipped: there is {', '.join(known) or 'none'}")
    return _read_bank((resources.files("powsim.bank") / f"{name}.npz").read_bytes(), f"the shipped bank {name}")


def shipped_names() -> tuple[str, ...]:
    """Return the names of the banks that come with the package."""
    folder = resources.files("powsim.bank")
    return tuple(sorted(entry.name[:-4] for entry in folder.iterdir() if entry.name.endswith(".npz")))


def _read_bank(content: bytes, name: str) -> Bank:
    about, arrays = _opened(content, BANK, name)
    plain: dict[str, Any] = {}
    for field, kind in PLAIN.items():
        value = about.get(field)
        if not isinstance(value, kind) and not (kind is float and type(value) is int):
            raise BankError(f"{name}: {field} is {shown(value)}, not of type {kind.__name__}: write it again")
        plain[field] = kind(value)
    provenance = about.get("provenance")
    if not isinstance(provenance, dict) or not all(isinstance(value, str) for value in provenance.values()):
        raise BankError(f"{name}: provenance is no table of texts: write it again")
    runs = tuple(_run(about, arrays, number, name) for number in range(len(about["runs"])))
    with _named(name):
        return check_bank(Bank(**plain, provenance=provenance, runs=runs))


def _figures(run: Run) -> dict[str, Any]:
    attacks = [recording.attack for recording in run.recordings]
    return {"seed": run.seed, **{name: float(getattr(run, name)) for name in FIGURES}, "attacks": attacks}


def _packed(run: Run, prefix: str) -> Arrays:
    """Return a run's arrays by their names in the file; an attack goes by its number, since its name is any text."""
    groups: dict[str, Pool | Recording] = {
        "pool": run.pool,
        **{str(number): one for number, one in enumerate(run.recordings)},
    }
    arrays: Arrays = {}
    for group, values in groups.items():
        for field in fields(values):
            if field.name == "attack":
                continue
            array = np.asarray(getattr(values, field.name), DTYPES[field.name])
            if array.dtype == np.uint16 and (array <= 255).all():
                array = array.astype(np.uint8)
            arrays[f"{prefix}{group}/{field.name}"] = np.asfortranarray(array)
    return arrays


def _write(path: Path, about: dict[str, Any], arrays: Arrays) -> None:
    from powsim.sweeps.store import write_whole

    buffer = io.BytesIO()
    text = np.array(json.dumps(about, sort_keys=True))
    np.savez_compressed(buffer, about=text, **arrays)  # type: ignore[arg-type]
    write_whole(path, buffer.getvalue())


def _content(path: Path) -> bytes:
    try:
        return read_file(path, LARGEST)
    except (OSError, ValueError) as error:
        raise BankError(f"cannot read {_name(path)}: {reason(error)}") from None


def _opened(content: bytes, form: str, name: str) -> tuple[dict[str, Any], Arrays]:
    """Return the metadata and the arrays of a file of the form that is wanted."""
    if not content.startswith(b"PK"):
        raise BankError(f"{name} is no bank: `powsim lab --out` writes .npz files that are")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST:
                raise BankError(f"{name} unpacks to more than {LARGEST >> 20} MiB, the most that is read")
        with np.load(io.BytesIO(content), allow_pickle=False) as members:
            arrays = {key: members[key] for key in members.files}
        about = json.loads(str(arrays.pop("about")))
    except BankError:
        raise
    except (*FAULTS, MemoryError) as error:
        why = str(error).splitlines() or [type(error).__name__]
        raise BankError(f"{name} is broken ({shown(why[0], 200)}): write it again") from None
    if not isinstance(about, dict) or about.get("format") != form:
        found = about.get("format") if isinstance(about, dict) else about
        raise BankError(f"{name} has format {shown(found)}, not {form}: this version of powsim reads no other")
    if not isinstance(about.get("runs"), list) or not about["runs"]:
        raise BankError(f"{name} holds no run: write it again")
    return about, arrays


def _run(about: dict[str, Any], arrays: Arrays, number: int, name: str) -> Run:
    figures = about["runs"][number]
    try:
        seed, attacks = figures["seed"], figures["attacks"]
        rates = {field: float(figures[field]) for field in FIGURES}
        if type(seed) is not int or not all(isinstance(attack, str) for attack in attacks):
            raise TypeError
    except (KeyError, TypeError, ValueError):
        raise BankError(f"{name}: run {number} has no proper seed, attacks or accuracies: write it again") from None
    taken = functools.partial(_array, arrays, name)
    pool = Pool(**{field.name: taken(f"{number}/pool/{field.name}") for field in fields(Pool)})
    own = [field.name for field in fields(Recording) if field.name != "attack"]
    recordings = tuple(
        Recording(attack, **{field: taken(f"{number}/{index}/{field}") for field in own})
        for index, attack in enumerate(attacks)
    )
    return Run(seed, pool=pool, recordings=recordings, **rates)


def _array(arrays: Arrays, name: str, key: str) -> Any:
    """Return one array as its field holds it, or raise where numbers would be lost on the way."""
    if key not in arrays:
        raise BankError(f"{name} has no array {key}: write it again")
    array, dtype = arrays[key], np.dtype(DTYPES[key.rpartition("/")[2]])
    kinds = "iu" if dtype.kind in "iu" else dtype.kind
    if array.dtype.kind not in kinds:
        raise BankError(f"{name}: array {key} has dtype {array.dtype}: {dtype} is needed")
    if dtype.kind in "iu" and array.size:
        least, most = max(0, np.iinfo(dtype).min), np.iinfo(dtype).max
        for value in (int(array.min()), int(array.max())):
            if not least <= value <= most:
                raise BankError(f"{name}: array {key} holds {value}: counts lie between {least} and {most}")
    array = np.ascontiguousarray(array, dtype)
    array.flags.writeable = False
    return array


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the file's name in front of what is wrong with its values."""
    try:
        yield
    except BankError as error:
        raise BankError(f"{name}: {error}") from None


def _plain(values: Mapping[str, Any]) -> Any:
    """Return values as they come back from JSON."""
    return json.loads(json.dumps(dict(values), sort_keys=True))


def _name(path: Path) -> str:
    return shown(str(path), 300)
