"""The `powsim` command: a thin skin over the package. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import os
import signal
import sys
import threading

USAGE = 2


def main() -> None:
    """Run the command and exit: 0 done, 1 no (mine), 2 wrong use or input, 130 interrupted, 143 terminated."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Return the exit code of `powsim ARGUMENTS`; messages for people, never a traceback, for foreseen errors."""
    from powsim.cli import interrupts

    main_thread = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in interrupts.HANDLED} if main_thread else {}
    if main_thread:
        interrupts.install()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without unicode gets question marks, not a crash
    try:
        code = _run(arguments)
        interrupts.check()
        return code
    except (KeyboardInterrupt, Exception) as error:
        if not isinstance(error, KeyboardInterrupt) and interrupts.seen() is None:
            raise  # a fault of ours, not an interrupt in disguise
        print("interrupted; nothing half-written is left", file=sys.stderr)
        return 128 + (interrupts.seen() or signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(arguments: list[str]) -> int:
    import click

    from powsim.cli.commands import cli
    from powsim.edge import ScenarioError
    from powsim.results import OutputError
    from powsim_kernels import BackendUnavailable

    try:
        code = cli.main(args=arguments, prog_name="powsim", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except MemoryError:
        click.echo("Error: out of memory: lower identities, replicas or queries; nothing was kept", err=True)
        return USAGE
    except (ScenarioError, BackendUnavailable, OutputError) as error:
        click.echo(f"Error: {error}", err=True)
        return USAGE
    except BrokenPipeError:
        _forget_stdout()  # the reader of a pipe left (`| head`): not an error, and nothing more can be said to it
        return 0
    except OSError as error:
        _forget_stdout()
        click.echo(f"Error: cannot write the output: {error.strerror or error}", err=True)
        return 1


def _forget_stdout() -> None:
    """Send what stdout still holds nowhere, else the interpreter complains about it on the way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
