"""The import rules of the design: who may know whom, and what loading a package may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import powsim
import powsim_kernels

ROOTS = {"powsim": Path(powsim.__file__).parent, "powsim_kernels": Path(powsim_kernels.__file__).parent}
FILES = [(package, path) for package, root in ROOTS.items() for path in sorted(root.rglob("*.py"))]

# The order of the chain: a stage may use what stands before it, never what comes after.
STAGES = ["study", "devices", "ledger", "meter", "policy", "population", "puzzle", "clock", "outcome"]


def imported(path: Path) -> set[str]:
    """Return the dotted names that a file imports anywhere, TYPE_CHECKING blocks included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_rules_see_imports(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("import a.b\ndef f():\n    from c import d\n")
    assert imported(file) == {"a.b", "c", "c.d"}


@pytest.mark.parametrize("path", [p for name, p in FILES if name == "powsim_kernels"], ids=str)
def test_kernels_never_import_the_simulator_nor_anything_but_their_libraries(path: Path) -> None:
    allowed = set(sys.stdlib_module_names) | {"numpy", "numba", "llvmlite", "cupy", "pynvml", "powsim_kernels"}
    assert {name.split(".")[0] for name in imported(path)} <= allowed


@pytest.mark.parametrize(("package", "path"), FILES, ids=lambda value: str(value))
def test_cupy_and_torch_stay_in_their_rooms(package: str, path: Path) -> None:
    tops = {name.split(".")[0] for name in imported(path)}
    if "cupy" in tops:
        assert path.name in ("cuda.py", "backend.py")
    if tops & {"torch", "sklearn"}:
        assert "lab" in path.relative_to(ROOTS[package]).parts


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_only_earlier_stages(stage: str) -> None:
    root = ROOTS["powsim"]
    files = [root / f"{stage}.py"] if (root / f"{stage}.py").is_file() else sorted((root / stage).rglob("*.py"))
    assert files
    allowed = set(STAGES[: STAGES.index(stage) + 1]) | {"__version__"}
    for file in files:
        own = {name.split(".")[1] for name in imported(file) if name.startswith("powsim.")}
        assert own <= allowed, f"{file.name} imports {own - allowed}"


@pytest.mark.parametrize("package", ["powsim", "powsim_kernels"])
def test_importing_a_package_costs_numpy_and_nothing_heavier(package: str) -> None:
    heavy = ["numba", "cupy", "torch", "scipy", "matplotlib", "plotly", "pyarrow", "pydantic", "rich", "click"]
    code = f"import sys, {package}; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_public_name_loads() -> None:
    for module in (powsim, powsim_kernels):
        for name in module.__all__:
            assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = powsim.nonsense


def test_no_source_file_is_longer_than_the_ceiling() -> None:
    too_long = {str(path): n for _, path in FILES if (n := len(path.read_text().splitlines())) > 400}
    assert not too_long
