"""The README is true: its code runs, its numbers are the tool's, every command and option it names exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from powsim import findings, load_scenario, simulate, summarise
from powsim.cli.commands import cli
from powsim.devices import catalogue
from readme_table import table

CHECKOUT = Path(__file__).parents[1]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def between(start: str, end: str) -> str:
    return README.split(start, 1)[1].split(end, 1)[0].partition("-->")[2].strip()


def test_table_and_sentences_are_what_the_tool_prints_today() -> None:
    groups = summarise(simulate(load_scenario("default")))
    assert between("<!-- table:", "<!-- end of table") == table(groups)
    sentences = between("<!-- findings", "<!-- end of findings").splitlines()
    assert sentences == [f"- {sentence}" for sentence in findings(groups)]


def test_the_first_python_example_runs() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", PYTHON[0]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("as-published ")
    assert "\ncalibrated " in done.stdout
    assert done.stdout.count("What holds: ") == 2


def test_the_policy_example_runs_from_a_scenario(tmp_path: Path) -> None:
    (tmp_path / "my_policy.py").write_text(PYTHON[1])
    scenario = (
        'name = "own"\n[service]\ndataset = "mnist"\n[policy]\nname = "my_policy.py:PerQuery"\nhashes_per_cost = 1e4\n'
        '[population.people]\nidentities = 20\nqueries = 640\ndevices = { "rtx-4090" = 1.0 }\n'
    )
    (tmp_path / "own.toml").write_text(scenario)
    outcome = simulate(load_scenario(tmp_path / "own.toml")).outcomes[0]
    assert outcome.work == pytest.approx(1e4 * outcome.cost, rel=1e-12)


def test_the_example_of_costs_in_batches_runs() -> None:
    shown = "print(abs(so_far[-1] / together - 1) < 1e-12, bool((eps > 0).all()), len(order.shape))"
    code = PYTHON[2] + shown
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "True", "0"]


@pytest.mark.parametrize("name", ["run", "test"])
def test_ci_finds_one_command_per_mark(name: str) -> None:
    block = README.split(f"<!-- ci: {name} -->\n```bash\n")[1].split("```")[0]
    assert len(block.strip().splitlines()) == 1


def test_every_command_is_named_and_has_help() -> None:
    named = set(re.findall(r"^\| `powsim (\w+)", README, re.MULTILINE))
    assert named == set(cli.commands)
    for name in cli.commands:
        shown = CliRunner().invoke(cli, [name, "--help"])
        assert shown.exit_code == 0
        assert len(shown.output.splitlines()) > 4
        for parameter in cli.commands[name].params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name}: --{parameter.name} has no help"


def test_every_option_named_for_a_command_exists() -> None:
    for row in re.findall(r"^\| `powsim .*$", README, re.MULTILINE):
        command = re.search(r"powsim (\w+)", row)
        assert command is not None
        known = {option for parameter in cli.commands[command[1]].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z]+", row)) <= known


def test_the_catalogue_has_as_many_devices_as_the_readme_says() -> None:
    assert f"the {len(catalogue())} solvers" in README
    assert f"{len(catalogue())} catalogue entries" in README


def test_files_that_the_readme_shows_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (CHECKOUT / target).is_file(), target
