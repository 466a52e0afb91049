"""A user's own policies: what works, and that what does not is told in words, never as a traceback."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plugins import refused, simulated, table
from powsim import parse_scenario, simulate, summarise
from powsim.cli import run
from powsim.policy import SHIPPED

BODY = "{'queries_per_puzzle': 0, 'partial_puzzle': True, 'price': lambda self, ledger, service: %s}"


DATACLASS = """
from dataclasses import dataclass, field
import numpy as np

@dataclass(frozen=True)
class Mine:
    scale: float = 1e5
    tags: list = field(default_factory=list)
    queries_per_puzzle: int = 50
    partial_puzzle: bool = True

    def price(self, ledger, service):
        return self.scale * ledger.asked
"""


@pytest.mark.parametrize("future", [False, True], ids=["plain", "from __future__ import annotations"])
def test_a_dataclass_in_a_file_is_a_policy_and_its_fields_are_arguments(future: bool, tmp_path: Path) -> None:
    text = ("from __future__ import annotations\n" if future else "") + DATACLASS
    (tmp_path / "mine.py").write_text(text)
    result = simulated(tmp_path, {"name": "mine.py:Mine", "scale": 7.0})
    for outcome in result.outcomes:
        np.testing.assert_allclose(outcome.work, 7.0 * outcome.queries, rtol=1e-12)
        np.testing.assert_array_equal(outcome.puzzles, -(-outcome.queries // 50))


def test_arguments_of_a_dataclass_are_checked_against_its_annotations(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(DATACLASS)
    text = refused(
        tmp_path, {"name": "mine.py:Mine", "scal": 1.0, "partial_puzzle": "no", "queries_per_puzzle": math.nan}
    )
    assert "3 mistakes" in text
    assert "policy.scal: unknown key; did you mean scale?" in text
    assert "policy.partial_puzzle: " in text
    assert "policy.queries_per_puzzle: " in text


def test_a_plain_class_is_a_policy_and_its_signature_refuses_other_arguments(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "class Mine:\n"
        "    queries_per_puzzle, partial_puzzle = 0, True\n"
        "    def __init__(self, scale=1.0): self.scale = scale\n"
        "    def price(self, ledger, service): return self.scale + 0 * ledger.cost\n"
    )
    result = simulated(tmp_path, {"name": "mine.py:Mine", "scale": 3.0})
    np.testing.assert_array_equal(result.outcomes[0].work, 3.0 * result.outcomes[0].puzzles)
    assert "scal" in refused(tmp_path, {"name": "mine.py:Mine", "scal": 3.0})


def test_a_changed_file_is_read_anew_and_nothing_is_written_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's own cache compares seconds and sizes: a file rewritten within a second would run as it was."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for price in (1, 2, 3):
        policy_file(tmp_path, f"{price}.0 + 0 * ledger.cost")
        outcome = simulated(tmp_path, {"name": "mine.py:Mine"}).outcomes[0]
        np.testing.assert_array_equal(outcome.work, float(price) * outcome.puzzles)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.py"]


FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "a factory": ("z: list = field(default_factory=list)", {"z": [1]}),
    "not an argument": ("z: int = field(default=3, init=False)", {}),
    "an argument but no field": ("z: InitVar[int] = 3", {"z": 4}),
    "names that pydantic uses": ("copy: int = 3; json: int = 4; model_config: int = 5", {"json": 6}),
    "a leading underscore": ("_z: int = 3", {"_z": 4}),
    "an integer for a float": ("z: float = 3.0", {"z": 4}),
    "a text annotation": ("z: 'int | None' = None", {"z": 4}),
    "an array": ("z: np.ndarray = None", {}),
}


@pytest.mark.parametrize("kind", list(FIELDS))
def test_dataclasses_of_every_kind_are_policies(kind: str, tmp_path: Path) -> None:
    fields, arguments = FIELDS[kind]
    text = DATACLASS.replace("field\n", "field, InitVar\n").replace(
        "    tags: list = field(default_factory=list)", f"    {fields}"
    )
    (tmp_path / "mine.py").write_text(text)
    result = simulated(tmp_path, {"name": "mine.py:Mine", "scale": 7.0, **arguments})
    np.testing.assert_allclose(result.outcomes[0].work, 7.0 * result.outcomes[0].queries, rtol=1e-12)


@pytest.mark.parametrize("every", ["np.int64(50)", "50"])
def test_queries_per_puzzle_may_be_any_whole_number(every: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        f"import numpy as np\nclass Mine:\n    queries_per_puzzle, partial_puzzle = {every}, True\n"
        "    def price(self, ledger, service): return 1.0 + 0 * ledger.cost\n"
    )
    np.testing.assert_array_equal(simulated(tmp_path, {"name": "mine.py:Mine"}).outcomes[0].puzzles, 4)


def test_an_import_path_and_the_short_name_of_a_shipped_policy_are_the_same(tmp_path: Path) -> None:
    for name, cls in SHIPPED.items():
        short = simulated(tmp_path, {"name": name})
        long = simulated(tmp_path, {"name": f"{cls.__module__}:{cls.__name__}"})
        for a, b in zip(short.outcomes, long.outcomes, strict=True):
            np.testing.assert_array_equal(a.hashes, b.hashes)


LOADS = {
    "broken": ("def (", "SyntaxError"),
    "raising": ("raise RuntimeError('[/] boo')", "boo"),
    "exiting": ("import sys; sys.exit(3)", "SystemExit"),
    "missing import": ("import nosuchmodule", "nosuchmodule"),
    "no such class": ("", "Mine"),
    "binary": ("\0\1\2", "null bytes"),
    "a number": ("Mine = 5", "callable"),
    "an object": (DATACLASS + "Mine = Mine()", "mine.py:Mine"),
    "no price": ("Mine = type('Mine', (), {'queries_per_puzzle': 0, 'partial_puzzle': True})", "price"),
    "no queries_per_puzzle": (
        "Mine = type('Mine', (), {'price': print, 'partial_puzzle': True})",
        "queries_per_puzzle",
    ),
    "__init__ raises": ("class Mine:\n    def __init__(self): raise KeyError('boo')", "boo"),
    "__init__ exits": ("class Mine:\n    def __init__(self): raise SystemExit(7)", "7"),
    "__post_init__ raises": (DATACLASS + "    def __post_init__(self): raise ValueError('odd')", "odd"),
    "property raises": (
        "class Mine:\n    partial_puzzle = True\n    price = print\n"
        "    @property\n    def queries_per_puzzle(self): raise RuntimeError('prop')",
        "prop",
    ),
    "unknown annotation": (DATACLASS.replace("scale: float", "scale: 'Undefined'"), "Undefined"),
    "price is no function": (f"Mine = type('Mine', (), {{**{BODY % '0'}, 'price': 5}})", "price"),
    "negative queries_per_puzzle": (f"Mine = type('Mine', (), {{**{BODY % '0'}, 'queries_per_puzzle': -5}})", "-5"),
    "half a query per puzzle": (f"Mine = type('Mine', (), {{**{BODY % '0'}, 'queries_per_puzzle': 0.5}})", "0.5"),
    "text for queries_per_puzzle": (f"Mine = type('Mine', (), {{**{BODY % '0'}, 'queries_per_puzzle': '64'}})", "64"),
    "huge queries_per_puzzle": (
        f"Mine = type('Mine', (), {{**{BODY % '0'}, 'queries_per_puzzle': 10**30}})",
        "queries",
    ),
}


@pytest.mark.parametrize("kind", list(LOADS))
def test_a_policy_that_cannot_be_built_is_a_mistake_in_the_scenario(kind: str, tmp_path: Path) -> None:
    text, words = LOADS[kind]
    (tmp_path / "mine.py").write_text(text)
    message = refused(tmp_path, {"name": "mine.py:Mine"})
    assert "policy" in message
    assert words in message


@pytest.mark.parametrize(
    "name", ["none.py:Mine", "folder.py:Mine", "no.such.module:Mine", ":Mine", "mine.py:", "a\0.py:M"]
)
def test_a_policy_that_is_not_there_is_a_mistake_in_the_scenario(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "mine.py").write_text(DATACLASS)
    assert "policy.name: cannot load" in refused(tmp_path, {"name": name})


def test_an_unknown_short_name_comes_with_the_known_ones(tmp_path: Path) -> None:
    text = refused(tmp_path, {"name": "as-publish"})
    assert "did you mean as-published?" in text
    assert all(name in text for name in SHIPPED)


PRICES = {
    "nan": "np.nan + ledger.cost",
    "negative": "-1.0 - ledger.cost",
    "infinite": "np.inf + ledger.cost",
    "huge": "1e300 + ledger.cost",
    "just too hard": "2.0**58 * 1.001 + 0 * ledger.cost",
    "wrong shape": "np.ones(3)",
    "a number": "5.0",
    "none": "None",
    "text": "[['a']]",
    "complex": "1j + ledger.cost",
    "ragged": "[[1.0], [1.0, 2.0]]",
    "raises KeyError": "{}['boo']",
    "raises ZeroDivisionError": "1 / 0",
    "raises OSError": "open('/nonexistent/file')",
    "exits": "(_ for _ in ()).throw(SystemExit(0))",
    "looks ahead": "ledger.cost[:, ::-1] + 1",
}


def policy_file(folder: Path, price: str) -> None:
    (folder / "mine.py").write_text(f"import numpy as np\nMine = type('Mine', (), {BODY % price})\n")


@pytest.mark.parametrize("kind", list(PRICES))
def test_a_price_that_is_none_ends_the_run_with_words_and_without_results(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy_file(tmp_path, PRICES[kind])
    (tmp_path / "s.toml").write_text(to_toml(table({"name": "mine.py:Mine"})))
    before = sorted(tmp_path.iterdir())
    assert run(["run", str(tmp_path / "s.toml"), "--json", "--out", str(tmp_path / "a" / "b")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "polic" in err or "bits" in err  # names the part at fault
    assert [p for p in sorted(tmp_path.iterdir()) if p.name != "__pycache__"] == before


def to_toml(raw: dict[str, Any]) -> str:
    """Return a table as TOML: values are JSON, which inline TOML reads but for the tables."""

    def inline(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json.dumps(k)} = {inline(v)}" for k, v in value.items()) + "}"
        return json.dumps(value)

    return "\n".join(f"{key} = {inline(value)}" for key, value in raw.items()) + "\n"


@pytest.mark.parametrize(
    "price",
    [
        "np.exp(ledger.cost / 50)",
        "1e4 * np.log1p(ledger.cost) + ledger.queries**1.5",
        "ledger.cost @ np.triu(np.ones((ledger.cost.shape[1],) * 2))",
        "np.cumsum(np.tanh(ledger.cost), axis=1)",
        "np.maximum.accumulate(ledger.asked, axis=1)",
        "(ledger.cost > 3) * np.int8(5)",
        "np.where(ledger.due, 5.0, np.nan)",
        "np.full(ledger.cost.shape, 5e-324)",
    ],
)
def test_an_honest_price_is_taken(price: str, tmp_path: Path) -> None:
    policy_file(tmp_path, price)
    for group in summarise(simulated(tmp_path, {"name": "mine.py:Mine"})):
        assert group.hashes.value >= 0


def test_rounding_is_not_looking_ahead(tmp_path: Path) -> None:
    """A sum by matrix product rounds otherwise when there are more columns; it is the same price."""
    policy_file(tmp_path, "ledger.cost @ np.triu(np.ones((ledger.cost.shape[1],) * 2)) / 1e3")
    raw = table({"name": "mine.py:Mine"})
    raw["population"]["web"] |= {"queries": 300 * 64, "identities": 7}
    simulate(parse_scenario(raw, folder=tmp_path))


def test_a_policy_that_never_knew_long_traces_still_gets_its_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report draws the whole published trace, beyond what anybody in the scenario asks."""
    (tmp_path / "mine.py").write_text(
        "class Mine:\n    queries_per_puzzle, partial_puzzle = 0, True\n    def price(self, ledger, service):\n"
        "        if ledger.queries.max() > 1000: raise ValueError('only up to 1000 queries')\n"
        "        return 1.0 + ledger.cost\n"
    )
    (tmp_path / "s.toml").write_text(to_toml(table({"name": "mine.py:Mine"})))
    assert run(["run", str(tmp_path / "s.toml"), "--json", "--out", str(tmp_path / "o")]) == 0
    assert (tmp_path / "o" / "manifest.json").is_file()


def test_a_policy_cannot_change_the_ledger_that_it_is_shown(tmp_path: Path) -> None:
    policy_file(tmp_path, "1e4 + 0 * ledger.cost")
    plain = simulated(tmp_path, {"name": "mine.py:Mine"})
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nclass Mine:\n    queries_per_puzzle, partial_puzzle = 0, True\n"
        "    def price(self, ledger, service):\n        answer = 1e4 + 0 * ledger.cost\n        try:\n"
        "            ledger.cost[:] = 0\n            ledger.due[:] = False\n        except ValueError:\n"
        "            pass\n        return answer\n"
    )
    meddled = simulated(tmp_path, {"name": "mine.py:Mine"})
    for a, b in zip(plain.outcomes, meddled.outcomes, strict=True):
        np.testing.assert_array_equal(a.cost, b.cost)
        np.testing.assert_array_equal(a.puzzles, b.puzzles)


def test_what_a_policy_prints_does_not_reach_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy_file(tmp_path, "print('hello') or 1e4 + 0 * ledger.cost")
    with (tmp_path / "mine.py").open("a") as file:
        file.write("print('loaded')\n")
    (tmp_path / "s.toml").write_text(to_toml(table({"name": "mine.py:Mine"})))
    assert run(["run", str(tmp_path / "s.toml"), "--json", "--no-save"]) == 0
    json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("literal", ["nan", "[1.0, {deep = inf}]", "2026-01-01", "{a = 12:00:00}"])
@pytest.mark.parametrize("kind", ["class", "dataclass"])
def test_odd_arguments_of_a_policy_leave_the_json_standard(
    kind: str, literal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = (
        "class Mine:\n    queries_per_puzzle, partial_puzzle = 0, True\n    def __init__(self, z): pass\n"
        "    def price(self, ledger, service): return 1.0 + ledger.cost\n"
    )
    text = (
        plain if kind == "class" else DATACLASS.replace("tags: list = field(default_factory=list)", "z: object = None")
    )
    (tmp_path / "mine.py").write_text(text)
    (tmp_path / "s.toml").write_text(to_toml(table()))
    policy = f"policy={{name='mine.py:Mine', z={literal}}}"
    code = run(["run", str(tmp_path / "s.toml"), "--json", "--no-save", "--set", policy])
    out, _ = capsys.readouterr()
    if code == 0:
        json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    else:
        assert code == 2
        assert out == ""
