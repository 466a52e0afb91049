"""`powsim lab`."""

from __future__ import annotations

from pathlib import Path

import click


class Seeds(click.ParamType):  # type: ignore[type-arg]
    """A number of seeds, 5 for 0 to 4, or a list with a comma: 3,7 (one seed alone: 3,)."""

    name = "N|LIST"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the seeds, or fail."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = [int(part) for part in value.split(",") if part.strip()]
        except ValueError:
            numbers = []
        if not numbers or min(numbers) < 0 or (numbers == [0] and "," not in value):
            self.fail(
                f"{value!r} is neither a number of seeds, such as 5, nor a list of them, such as 0,1,2.", param, ctx
            )
        if "," in value:
            return tuple(numbers)
        if numbers[0] > 10_000:
            self.fail(f"{numbers[0]} seeds are more than 10000, the most of one study.", param, ctx)
        return tuple(range(numbers[0]))


@click.command()
@click.option("--task", default="digits16", show_default=True, metavar="NAME|PATH", help="A task, or data files.")
@click.option("--attack", "attacks", multiple=True, metavar="NAME", help="Only these attacks, or FILE.py:CLASS [15].")
@click.option("--seeds", type=Seeds(), help="How many, or which: 0,1,7 [5; of 8x8 tasks 2].")
@click.option("--queries", type=click.IntRange(1, 10**7), help="Of each attack [1024; 512].")
@click.option("--datafree-queries", type=click.IntRange(1, 10**9), help="Of DataFree [20000; 4000].")
@click.option("--steps", type=click.IntRange(1, 10**7), help="Training steps of each stolen model [320; 160].")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the study [powsim-lab/TASK].")
@click.option("--workers", type=click.IntRange(1, 1024), default=2, show_default=True, help="Processes.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where torch runs."
)
@click.option("--full", is_flag=True, help="Print every table of the page.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def lab(
    task: str,
    attacks: tuple[str, ...],
    seeds: tuple[int, ...] | None,
    queries: int | None,
    datafree_queries: int | None,
    steps: int | None,
    out: Path | None,
    workers: int,
    device: str,
    full: bool,
    as_json: bool,
) -> None:
    """Run real extraction attacks on a real model, price them, and mine every puzzle of the study.

    Trains a victim, teachers and stolen models for each seed, records what every query costs, and writes a bank, a
    page and a picture. Run it again to go on where it ended: seeds that are done are kept.
    """
    from powsim.cli.studying import run
    from powsim.lab.study import Study, size_of

    size = size_of(task)
    study = Study(
        task,
        attacks,
        tuple(range(size.seeds)) if seeds is None else seeds,
        queries or size.queries,
        datafree_queries or size.datafree_queries,
        steps or size.steps,
        device,
    )
    run(study, out or Path("powsim-lab") / Path(task).stem, workers, size.mining_s, as_json, full)
