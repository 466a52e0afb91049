"""The `powsim` command: a thin skin over the package. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import sys

from powsim.cli import interrupts

USAGE = 2


def main() -> None:
    """Run the command and exit: 0 done, 1 no (mine), 2 wrong use or input, 130 interrupted, 143 terminated."""
    try:
        interrupts.install()  # before anything is loaded that takes its time
        code = run(sys.argv[1:])
        interrupts.ignore()
    except KeyboardInterrupt:  # between two lines of `run`
        interrupts.ignore()
        code = interrupts.exit_code()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Return the exit code of `powsim ARGUMENTS`; messages for people, never a traceback, for foreseen errors."""
    import threading

    from powsim.cli import streams

    main_thread = threading.current_thread() is threading.main_thread()
    with interrupts.remembered() if main_thread else contextlib.nullcontext():
        try:
            streams.prepare()
            code = _run(arguments)
            interrupts.check()
            return code
        except (KeyboardInterrupt, Exception) as error:
            if not isinstance(error, KeyboardInterrupt) and interrupts.seen() is None:
                raise  # a fault of ours, not an interrupt in disguise
            streams.say("interrupted; nothing half-written is left")
            return interrupts.exit_code()


def _run(arguments: list[str]) -> int:
    import click

    from powsim.cli import streams
    from powsim.cli.commands import cli
    from powsim.edge import ScenarioError
    from powsim.results import OutputError
    from powsim.votes import VotesError
    from powsim_kernels import BackendUnavailable, unbroken

    unbroken.at_rest = interrupts.check
    try:
        code = cli.main(args=arguments, prog_name="powsim", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        return error.exit_code
    except MemoryError:
        streams.say("Error: out of memory: lower identities, replicas or queries; nothing was kept")
        return USAGE
    except (ScenarioError, BackendUnavailable, OutputError, VotesError) as error:
        streams.say(f"Error: {error}")
        return USAGE
    except BrokenPipeError:
        streams.forget_stdout()  # the reader of a pipe left (`| head`): no error, and nothing more can be said to it
        return 0
    except OSError as error:
        streams.forget_stdout()
        streams.say(f"Error: cannot write the output: {error.strerror or error}")
        return 1
    finally:
        unbroken.at_rest = None
