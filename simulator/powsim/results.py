"""Results on disk: one Parquet table of identities, a summary, a manifest that comes last.

Everything is written into a temporary folder beside the target, flushed, and renamed: what carries the target's name
is whole. The bytes depend on scenario and seed alone, not on threads, time or machine.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from powsim import checks
from powsim.conclusions import findings
from powsim.engine import Result
from powsim.server.rows import INTERVAL, gate_findings
from powsim.summary import GroupSummary

FORMAT = "powsim-results-1"
MANIFEST = "manifest.json"


class OutputError(OSError):
    """The results folder cannot be used; the text says why and what to do."""


def document(result: Result, groups: list[GroupSummary]) -> dict[str, Any]:
    """Return what `powsim run --json` prints and summary.json holds."""
    value = {
        "scenario": result.scenario.name,
        "scenario_id": result.scenario.id,
        "seed": result.seed,
        "policy": result.scenario.policy,
        "interval": "95 %: of the estimate for populations, of single campaigns for campaigns",
        "groups": [group.as_dict() for group in groups],
        "findings": findings(groups),
        "checks": [check.as_dict() for check in checks_of(result)],
    }
    if result.gate:
        value["gate"] = {
            "interval": INTERVAL,
            "rows": [row.as_dict() for row in result.gate],
            "findings": gate_findings(result.gate),
        }
    return value


def checks_of(result: Result) -> list[checks.Check]:
    """Return the checks of the published policy where that is the policy, else none."""
    return checks.published_checks() if result.scenario.policy["name"] == "as-published" else []


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield a temporary folder that takes the name `target` when the block ends well, and vanishes when it does not.

    A results folder of powsim's own is replaced; any other folder with something in it is refused.
    Raises OutputError before the block runs where nothing can be written.
    """
    try:
        missing = [folder for folder in target.parents if not folder.exists()]
        _refuse_others(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    except OutputError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise OutputError(f"cannot write to {str(target)[:200]}: {_reason(error)}; choose another --out") from error
    try:
        yield temporary
        for file in temporary.iterdir():
            _flush(file)
        _flush(temporary)
        temporary.chmod(0o755)
        _swap(temporary, target)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {target}: {_reason(error)}; nothing was kept") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in missing:  # empty again where nothing was written
            with contextlib.suppress(OSError):
                folder.rmdir()


def _refuse_others(target: Path) -> None:
    """Raise OutputError where the name is taken by anything but an empty folder or results of powsim's own."""
    if target.is_symlink() and not target.exists():
        raise OutputError(f"{target} is a link to nowhere: choose another --out")
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is a file: choose another --out")
    if not target.is_dir():
        return
    held = {entry.name for entry in target.iterdir()}
    if not held:
        return
    try:
        manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        own = {MANIFEST, *manifest["files"]} if manifest["format"] == FORMAT else set()
    except (OSError, ValueError, KeyError, TypeError):
        own = set()
    if others := sorted(held - own):
        raise OutputError(f"{target} holds {others[0]}, which no run wrote: choose an empty or new --out")


def _reason(error: Exception) -> str:
    """Return why the system refused; not every OSError has an errno."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error)


def write(
    folder: Path,
    result: Result,
    groups: list[GroupSummary],
    pages: Callable[[Path, Result, list[GroupSummary]], list[Path]] | None = None,
) -> None:
    """Write the tables, the files that `pages` writes, and last the manifest."""
    import pyarrow.parquet as pq

    from powsim import __version__

    about = {
        "format": FORMAT,
        "powsim": __version__,
        "scenario_id": result.scenario.id,
        "scenario": result.scenario.text,
        "seed": str(result.seed),
    }
    table = _table(result).replace_schema_metadata({key: value.encode() for key, value in about.items()})
    files = [folder / "identities.parquet", folder / "summary.json"]
    pq.write_table(table, files[0], compression="zstd")
    files[1].write_text(json.dumps(document(result, groups), indent=1) + "\n", encoding="utf-8")
    if pages is not None:
        files += pages(folder, result, groups)
    manifest = {
        **about,
        "identities": table.num_rows,
        "files": {
            file.name: {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
            for file in files
        },
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _table(result: Result) -> Any:
    """Return one row per identity: group, device, totals."""
    import numpy as np
    import pyarrow as pa

    columns: dict[str, Any] = {}
    sizes = [len(outcome.queries) for outcome in result.outcomes]
    of_group = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    columns["group"] = pa.DictionaryArray.from_arrays(of_group, [group.name for group in result.groups])
    names = sorted({device.name for group in result.groups for device in group.devices})
    number = [np.array([names.index(d.name) for d in group.devices], dtype=np.int32) for group in result.groups]
    of_device = [own[outcome.device] for own, outcome in zip(number, result.outcomes, strict=True)]
    columns["device"] = pa.DictionaryArray.from_arrays(np.concatenate(of_device), names)
    for name in result.outcomes[0].__dataclass_fields__:
        if name != "device":
            columns[name] = np.concatenate([getattr(outcome, name) for outcome in result.outcomes])
    columns["slowdown"] = np.concatenate([outcome.slowdown for outcome in result.outcomes])
    return pa.table(columns)


def _flush(path: Path) -> None:
    """Make sure that a file's or a folder's content is on disk before a rename says that it is."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap(temporary: Path, target: Path) -> None:
    """Give `temporary` the name `target`; results that had the name are moved away first and removed after."""
    for attempt in range(10):
        try:
            temporary.rename(target)  # also replaces an empty folder
            break
        except OSError as error:
            # Another run may take the name at any moment: move what is there away and try again.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == 9:
                raise
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
        with contextlib.suppress(FileNotFoundError):
            target.rename(old / "results")
        shutil.rmtree(old, ignore_errors=True)
    _flush(target.parent)
