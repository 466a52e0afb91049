"""A user's own traces and devices: what works, and that what does not is told in words."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from plugins import refused, table
from powsim import parse_scenario, simulate


def trace_file(folder: Path, text: str | bytes, name: str = "t.csv") -> str:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


@pytest.mark.parametrize(
    "text",
    [
        "queries,cost\n100,5\n1000,90\n",
        "queries,cost\r\n0,0\r\n100,5\r\n1000,90\r\n",
        "cost,when,queries\n5,x,100\n90,y,1000\n",
        'queries,cost\n"100","5"\n1e3,9e1\n',
        b"\xef\xbb\xbfqueries,cost\n100,5\n1000,90\n",
    ],
    ids=["plain", "crlf and origin", "other columns", "quoted", "byte order mark"],
)
def test_a_trace_of_ones_own_is_interpolated_from_the_origin(text: str | bytes, tmp_path: Path) -> None:
    trace_file(tmp_path, text)
    result = simulate(parse_scenario(table({"name": "none"}, "t.csv"), folder=tmp_path))
    campaign = result.outcomes[1]
    np.testing.assert_array_equal(campaign.queries, 350)
    expected = 5 + (350 - 100) / (1000 - 100) * (90 - 5)
    np.testing.assert_allclose(campaign.cost, expected, rtol=1e-12)


@pytest.mark.parametrize("text", ["queries,cost\n0,0\n100,5\n", "queries,cost\n50,2.5\n100,5\n"])
def test_beyond_its_end_a_trace_goes_on_at_its_rate(text: str, tmp_path: Path) -> None:
    trace_file(tmp_path, text)
    result = simulate(parse_scenario(table({"name": "fixed"}, "t.csv"), folder=tmp_path))
    np.testing.assert_allclose(result.outcomes[1].cost, 350 * 0.05, rtol=1e-12)


TRACES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "t.csv"),
    "header only": ("queries,cost\n", "two rows"),
    "one row": ("queries,cost\n1,2\n", "two rows"),
    "other columns": ("q,c\n1,2\n2,3\n", "queries,cost"),
    "semicolons": ("queries;cost\n1;2\n2;3\n", "queries,cost"),
    "nan": ("queries,cost\n1,nan\n2,3\n", "finite"),
    "infinite": ("queries,cost\n1,1\n2,inf\n", "finite"),
    "text": ("queries,cost\n1,a\n2,3\n", "'a'"),
    "a cell missing": ("queries,cost\n1,2\n2\n", "queries,cost"),
    "falling queries": ("queries,cost\n2,3\n1,4\n", "rise"),
    "standing queries": ("queries,cost\n2,3\n2,4\n", "rise"),
    "falling cost": ("queries,cost\n1,4\n2,3\n", "fall"),
    "negative": ("queries,cost\n-1,0\n2,3\n", "'t.csv'"),
    "not utf-8": (b"queries,cost\n1,\xff\n2,3\n", "utf-8"),
    "nul": (b"queries,cost\n1,\x00\n2,3\n", "'t.csv'"),
    "a huge cell": ("queries,cost\n" + "1" * 200_000 + ",2\n", "'t.csv'"),
    "a cost that no curve can hold": ("queries,cost\n1e-300,0\n2e-300,1e300\n", "'t.csv'"),
}


@pytest.mark.parametrize("kind", list(TRACES))
def test_a_trace_that_is_none_is_a_mistake_at_its_place(kind: str, tmp_path: Path) -> None:
    text, words = TRACES[kind]
    message = refused(tmp_path, {"name": "none"}, trace_file(tmp_path, text))
    assert "campaign.theft.trace: " in message
    assert words in message
    assert len(message) < 1000


def test_a_trace_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    assert "campaign.theft.trace: cannot read 't.csv': is a pipe" in refused(tmp_path, {"name": "none"}, "t.csv")


@pytest.mark.parametrize("name", ["none.csv", ".csv", "folder.csv", "a\0b.csv"])
def test_a_trace_that_is_not_there_is_a_mistake_at_its_place(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    assert "campaign.theft.trace: " in refused(tmp_path, {"name": "none"}, name)


def test_a_device_of_ones_own_solves_at_its_rate_and_costs_its_rent(tmp_path: Path) -> None:
    raw = table({"name": "fixed", "bits": 10.0})
    raw["devices"] = {"asic": {"rate_low_hz": 1000, "rate_high_hz": 1000.0, "watts": 50, "usd_per_h": 7.2}}
    raw["campaign"]["theft"]["devices"] = ["asic"]
    outcome = simulate(parse_scenario(raw)).outcomes[1]
    np.testing.assert_allclose(outcome.solve_s, outcome.hashes / 1000.0, rtol=1e-12)
    np.testing.assert_allclose(outcome.cost_usd, outcome.hashes / 1000.0 * 0.002, rtol=1e-12)
    np.testing.assert_allclose(outcome.energy_j, outcome.hashes / 20.0, rtol=1e-12)
    del raw["devices"]["asic"]["usd_per_h"]
    outcome = simulate(parse_scenario(raw)).outcomes[1]
    np.testing.assert_allclose(outcome.cost_usd, outcome.hashes / 20.0 / 3.6e6 * 0.15, rtol=1e-12)
