"""Arrivals: the laws they claim, the same by address, and logs that are read with care."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from scipy import stats

from oracles import uniform_at
from powsim.arrivals import Arrivals, Batches, Bursts, Draws, Log, Poisson, read_log

KEY = 0xA11A
LEVEL = 1e-4
PROCESSES: dict[str, Arrivals] = {
    "poisson": Poisson(7.0),
    "bursts": Bursts(2.0, 30.0, 20.0, 5.0),
    "silent between bursts": Bursts(0.0, 40.0, 10.0, 3.0),
    "batches": Batches(9.0, 4.0),
    "batches of one": Batches(9.0, 1.0),
    "log": Log(np.arange(0.0, 500.0, 0.25), 2.0),
}
every = pytest.mark.parametrize("name", PROCESSES)


def draws(replica: int = 0, **more: Any) -> Draws:
    return Draws(KEY, replica, **more)


@every
def test_times_rise_within_the_window_and_depend_on_the_address_alone(name: str) -> None:
    process = PROCESSES[name]
    times = process.times(draws(3), 100.0)
    assert times.dtype == np.float64
    assert np.all(np.diff(times) >= 0)
    assert times[0] >= 0
    assert times[-1] < 100
    np.testing.assert_array_equal(times, process.times(draws(3, threads=1), 100.0))
    few = process.times(draws(3), 2.0)
    np.testing.assert_array_equal(few, process.times(draws(3, backend="reference"), 2.0))
    if name != "log":
        assert not np.array_equal(times[:5], process.times(draws(4), 100.0)[:5])


@every
def test_a_longer_window_only_adds(name: str) -> None:
    process = PROCESSES[name]
    whole = process.times(draws(), 400.0)
    for seconds in (0.01, 3.0, 57.0, 399.0):
        part = process.times(draws(), seconds)
        # Points are carried back through sums of as many terms: the same to rounding in bursts, to the bit elsewhere.
        np.testing.assert_allclose(part, whole[: len(part)], rtol=1e-12)
        assert len(part) == len(whole) or whole[len(part)] >= seconds * (1 - 1e-12)


@every
def test_the_long_run_rate_is_the_stated_one(name: str) -> None:
    process: Any = PROCESSES[name]
    counts = np.array([len(process.times(draws(r), 240.0)) for r in range(400 if name != "log" else 1)])
    if name == "log":
        assert counts[0] == 240 * 4 * 2
        return
    error = counts.std(ddof=1) / len(counts) ** 0.5
    assert abs(counts.mean() - 240.0 * process.rate_hz) < stats.norm.ppf(1 - LEVEL / 2) * error
    assert error < 0.05 * counts.mean()


def test_poisson_gaps_are_minus_the_logarithm_of_the_addressed_uniforms() -> None:
    expected = np.cumsum([-np.log(uniform_at(KEY, 0, j, 5, 0)) for j in range(20)]) / 7.0
    np.testing.assert_allclose(Poisson(7.0).times(draws(5), 100.0)[:20], expected, rtol=1e-14)


def test_poisson_gaps_are_exponential_and_counts_poisson() -> None:
    times = Poisson(7.0).times(draws(), 5000.0)
    assert stats.kstest(np.diff(times) * 7.0, "expon").pvalue > LEVEL
    counts = np.histogram(times, np.arange(0.0, 5001.0))[0]
    dispersion = counts.var(ddof=1) / counts.mean()
    assert stats.chi2.cdf(dispersion * 4999, 4999) == pytest.approx(0.5, abs=0.5 - LEVEL)


def test_bursts_are_overdispersed_as_their_spells_say() -> None:
    # Variance of a two-state Markov-modulated count: mean + 2 (r1-r2)^2 p1 p2 / s (t - (1 - e^-st) / s).
    process, t = Bursts(2.0, 30.0, 20.0, 5.0), 100.0
    s, p = 1 / 20 + 1 / 5, 5 / 25
    mean = process.rate_hz * t
    variance = mean + 2 * (30 - 2) ** 2 * p * (1 - p) / s * (t - (1 - np.exp(-s * t)) / s)
    counts = np.array([len(process.times(draws(r), t)) for r in range(3000)])
    assert counts.mean() == pytest.approx(mean, rel=0.03)
    assert counts.var(ddof=1) == pytest.approx(variance, rel=0.12)


def test_a_silent_state_is_silent() -> None:
    times = Bursts(0.0, 200.0, 10.0, 3.0).times(draws(), 2000.0)
    gaps = np.diff(times)
    pauses = gaps[gaps > 0.2]  # within a spell a gap this long has a chance of e^-40
    assert stats.kstest(pauses - 0.2, "expon", args=(0, 10.0)).pvalue > LEVEL
    assert len(pauses) == pytest.approx(2000 / 13, rel=0.3)


def test_batch_sizes_are_geometric() -> None:
    times = Batches(9.0, 4.0).times(draws(), 20_000.0)
    sizes = np.unique(times, return_counts=True)[1]
    last = 15
    observed = np.bincount(np.minimum(sizes, last), minlength=last + 1)[1:]
    expected = np.append(stats.geom.pmf(np.arange(1, last), 0.25), stats.geom.sf(last - 1, 0.25)) * len(sizes)
    assert stats.chisquare(observed, expected).pvalue > LEVEL


def test_too_many_requests_are_refused_with_the_cure() -> None:
    for process in (Poisson(1e6), Batches(1e6, 1000.0), Bursts(1e6, 1e6, 1.0, 1.0), Bursts(1.0, 1.0, 1e-5, 1e-5)):
        with pytest.raises(ValueError, match=r"more than 20,000,000: lower the rate or the seconds"):
            process.times(draws(), 1000.0)


def test_a_log_starts_at_its_first_time_and_may_be_sped_up(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("timestamp,path\n100.5,/x\n101,/y\n103.25,/z\n103.25,/z\n")
    log = read_log("a.csv", tmp_path)
    assert log.tolist() == [0.0, 0.5, 2.75, 2.75]
    assert Log(log).times(draws(), 2.75).tolist() == [0.0, 0.5]
    assert Log(log, 2.0).times(draws(), 60.0).tolist() == [0.0, 0.25, 1.375, 1.375]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_dates_are_read_to_their_last_digit(unit: str, tmp_path: Path) -> None:
    ticks = np.array([1_700_000_000_000_000_001, 1_700_000_000_000_000_004, 1_700_000_007_000_000_001])
    whole = ticks // {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    values = pa.array(whole, pa.timestamp(unit, tz="UTC"))
    parquet.write_table(pa.table({"when": values, "other": [1, 2, 3]}), tmp_path / "a.parquet")
    expected = [0.0, 3e-9 if unit == "ns" else 0.0, 7.0]
    assert read_log("a.parquet", tmp_path, "when").tolist() == expected


def test_iso_dates_of_a_csv_file_and_whole_seconds_are_read(tmp_path: Path) -> None:
    start = datetime.datetime(2026, 11, 25, 23, 59, 59, tzinfo=datetime.UTC)
    days = [start + datetime.timedelta(seconds=s) for s in (0, 1, 61)]
    (tmp_path / "a.csv").write_text("\n".join(["timestamp", *(d.strftime("%Y-%m-%dT%H:%M:%SZ") for d in days)]) + "\n")
    assert read_log("a.csv", tmp_path).tolist() == [0.0, 1.0, 61.0]
    (tmp_path / "b.csv").write_text("t\n7\n9\n")
    assert read_log("b.csv", tmp_path, "t").tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("when\n1\n2\n", r"'a.csv' has no column 'timestamp', only 'when': name one as `column`"),
        ("timestamp\n3\n", r"'a.csv' holds 1 times: at least two"),
        ("timestamp\n1\n3\n2\n", r"'a.csv', row 3: 2 is before the row above: sort the file by time"),
        ("timestamp,b\n1,0\n,0\n3,0\n", r"'a.csv', row 2: an empty cell is no time: remove the row"),
        ("timestamp\n1\nnan\n3\n", r"'a.csv', row 2: an empty cell is no time"),
        ("timestamp\n1\ninf\n", r"'a.csv', row 2: inf is no time"),
        ("timestamp\nlater\nsooner\n", r"'a.csv', column 'timestamp' holds values of type string: seconds"),
        ("timestamp\ntrue\nfalse\n", r"type bool: seconds"),
        ("timestamp\n5\n5\n", r"'a.csv': all 2 times are the same"),
        ("timestamp,timestamp\n1,2\n3,4\n", r"2 columns 'timestamp': one is needed"),
        ("timestamp\n2026-01-01 00:00:02\n2026-01-01 00:00:01\n", r"row 2: 2026-01-01 00:00:01 is before"),
        ("timestamp,b\n1,2\n3\n", r"cannot read 'a.csv'"),
        ("", r"cannot read 'a.csv'"),
    ],
    ids=str,
)
def test_a_log_that_is_none_is_refused_by_row_with_the_cure(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_log("a.csv", tmp_path)


def test_files_that_cannot_be_logs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    for name in ("a.parquet", "missing.csv", ".", "nul\0.csv"):
        with pytest.raises(ValueError, match="cannot read"):
            read_log(name, tmp_path)
