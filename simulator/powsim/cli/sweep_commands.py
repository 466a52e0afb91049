"""`powsim sweep`, `powsim status`, `powsim merge`."""

from __future__ import annotations

from pathlib import Path

import click

from powsim_kernels import BACKENDS

FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
FULL = click.option("--full", is_flag=True, help="Print every point's groups and devices as well.")


@click.command()
@click.argument("source", metavar="SWEEP", required=False)
@click.option("--list", "listing", is_flag=True, help="List the shipped sweeps.")
@click.option("--show", is_flag=True, help="Print the sweep file, to start one of your own from.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the sweep [powsim-sweeps/NAME].")
@click.option("--workers", type=click.IntRange(1, 1024), help="Worker processes [1: none; cuda: one per device].")
@click.option("--dask", metavar="ADDRESS", help="Work on the Dask cluster of this scheduler: tcp://host:8786.")
@click.option(
    "--backend",
    type=click.Choice(["auto", *BACKENDS]),
    default="auto",
    show_default=True,
    help="Where kernels run; cuda starts one worker per device.",
)
@click.option("--threads", type=click.IntRange(1, 4096), help="Threads of a worker [1; without workers all CPUs].")
@click.option("--until", metavar="GOAL", help='Add shards until an interval is so narrow: "p95_slowdown ±2%" (or +-).')
@click.option("--max-shards", type=click.IntRange(1, 1_000_000), help="Most shards of a point that --until may take.")
@FULL
@JSON
def sweep(
    source: str | None,
    listing: bool,
    show: bool,
    out: Path | None,
    workers: int | None,
    dask: str | None,
    backend: str,
    threads: int | None,
    until: str | None,
    max_shards: int | None,
    full: bool,
    as_json: bool,
) -> None:
    """Simulate every point of SWEEP, a TOML file or a shipped one, in shards; run it again to go on where it ended.

    Killed at any moment, it loses the shards in flight and repeats none. `powsim status DIR` tells how far it is.
    """
    from powsim.cli import sweeping

    if listing:
        sweeping.show_shipped()
        return
    if source is None:
        raise click.UsageError("name a sweep file, or a shipped sweep (`powsim sweep --list`).")
    if show:
        sweeping.show_file(source)
        return
    if dask is not None and workers is not None:
        raise click.UsageError("--dask and --workers exclude each other.")
    sweeping.run(source, out, workers or 1, dask, backend, threads, until, max_shards, as_json, full)


@click.command()
@FOLDER
@JSON
def status(folder: Path, as_json: bool) -> None:
    """Tell how far the sweep in DIR is, its rate and the time left; while it runs too, from any machine."""
    from powsim.cli import sweeping

    sweeping.show_status(folder, as_json)


@click.command()
@FOLDER
@click.option("--against", metavar="ID", help="Print each point's differences from this one, on common random numbers.")
@FULL
@JSON
def merge(folder: Path, against: str | None, full: bool, as_json: bool) -> None:
    """Merge the shards of the sweep in DIR: a line per point here, and DIR/merged.parquet and DIR/merged.json.

    Exit code 1: points are not whole; those that are have been merged.
    """
    from powsim.cli import sweeping

    raise click.exceptions.Exit(sweeping.show_merged(folder, against, as_json, full))
