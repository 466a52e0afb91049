"""The wheel holds every file of both packages and works away from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Copied first: building in place would leave build/ and egg-info behind, and race with other workers.
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in tracked.stdout.splitlines():
        if (CHECKOUT / name).is_file() and not name.startswith(("tests/", "bench/")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((CHECKOUT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_file_of_both_packages_and_nothing_else(wheel: Path) -> None:
    expected = set()
    for root in (CHECKOUT / "simulator", CHECKOUT / "kernels"):
        files = [path for path in root.rglob("*") if path.is_file()]
        expected |= {
            path.relative_to(root).as_posix()
            for path in files
            if "__pycache__" not in path.parts and not any(part.endswith(".egg-info") for part in path.parts)
        }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
    assert held == expected
    assert {"powsim/py.typed", "powsim_kernels/py.typed", "powsim/study/traces.toml"} <= held


def test_the_installed_wheel_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    environment = {**os.environ, "PYTHONPATH": str(place)}
    where = subprocess.run(
        [sys.executable, "-c", "import powsim, powsim_kernels; print(powsim.__file__); print(powsim_kernels.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(line.startswith(str(place)) for line in where.stdout.splitlines())
    small = ["--set", "population.web.identities=50", "--set", "population.api.identities=50", "--set", "campaign={}"]
    done = subprocess.run(
        [sys.executable, "-m", "powsim", "run", "--json", "--out", "results", *small],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [group["identities"] for group in json.loads(done.stdout)["groups"]] == [50, 50]
    assert (tmp_path / "results" / "manifest.json").is_file()
