"""`powsim mine`: one real puzzle, solved or checked."""

from __future__ import annotations

import json
import sys

import click

from powsim.cli import interrupts
from powsim_kernels import MineProgress
from powsim_kernels import mine as mine_puzzles
from powsim_kernels import verify as verify_nonces


class _Interrupted:
    """What `mine` polls to stop: set once a signal came, even where a compiler's callback swallowed it."""

    def is_set(self) -> bool:
        """Return whether a signal came."""
        return interrupts.seen() is not None


def verify_one(challenge: bytes, nonce: int, bits: float, backend: str, as_json: bool) -> int:
    """Print whether the nonce solves the puzzle; return the exit code."""
    valid = bool(verify_nonces([challenge], [nonce], bits, backend=backend)[0])
    if as_json:
        click.echo(json.dumps({"nonce": nonce, "bits": bits, "valid": valid}))
    else:
        click.echo(f"nonce {nonce} {'solves' if valid else 'does not solve'} the {bits:g}-bit puzzle")
    return 0 if valid else 1


def mine_one(
    challenge: bytes,
    bits: float,
    start: int,
    limit: int | None,
    backend: str,
    threads: int | None,
    as_json: bool,
) -> int:
    """Mine, print the nonce, return the exit code."""
    result = mine_puzzles(
        [challenge],
        bits,
        start=start,
        limit=limit,
        backend=backend,
        threads=threads,
        on_progress=_progress if sys.stderr.isatty() else None,
        cancel=_Interrupted(),
    )
    interrupts.check()
    found, tries = bool(result.found[0]), int(result.tries[0])
    rate = tries / result.seconds if result.seconds > 0 else 0.0
    if as_json:
        value = {
            "found": found,
            "nonce": int(result.nonce[0]) if found else None,
            "digest": bytes(result.digest[0]).hex() if found else None,
            "bits": bits,
            "tries": tries,
            "seconds": result.seconds,
            "hashes_per_s": rate,
            "joules": result.joules,
            "backend": result.backend,
        }
        click.echo(json.dumps(value))
    elif found:
        click.echo(f"nonce  {int(result.nonce[0])}\ndigest {bytes(result.digest[0]).hex()}")
        click.echo(f"{tries:,} hashes in {result.seconds:.3f} s, {rate / 1e6:.2f} MH/s ({result.backend})", err=True)
    else:
        ahead = f"go on with --start {start + tries}" if start + tries < 2**64 else "there are no more"
        click.echo(f"no nonce in {tries:,} tries; {ahead}", err=True)
    return 0 if found else 1


def _progress(progress: MineProgress) -> None:
    """Say how long it may still take; the law has no memory, so a quantile tells more than the mean."""
    click.echo(
        f"\r{progress.tries:,} hashes tried; {progress.remaining_s:,.0f} s more on average, "
        f"{progress.remaining_s_p95:,.0f} s in 19 of 20 cases  ",
        nl=progress.ended == progress.total,
        err=True,
    )
