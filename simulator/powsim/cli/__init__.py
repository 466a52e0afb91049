"""The `powsim` command: a thin skin over the package. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import sys

INTERRUPTED = 130
USAGE = 2


def main() -> None:
    """Run the command and exit: 0 done, 2 wrong use or input, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Return the exit code of `powsim ARGUMENTS`; messages for people, never a traceback, for foreseen errors."""
    try:
        import click

        from powsim.cli.commands import cli
        from powsim.results import OutputError
        from powsim.scenario import ScenarioError
        from powsim_kernels import BackendUnavailable
    except KeyboardInterrupt:
        return INTERRUPTED
    try:
        code = cli.main(args=arguments, prog_name="powsim", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Abort:
        click.echo("interrupted: nothing was written", err=True)
        return INTERRUPTED
    except KeyboardInterrupt:
        click.echo("interrupted: nothing was written", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (ScenarioError, BackendUnavailable, OutputError) as error:
        click.echo(f"Error: {error}", err=True)
        return USAGE
    except BrokenPipeError:
        # The reader of a pipe left (`| head`): not an error, and nothing more can be said to it.
        sys.stderr.close()
        return 0
