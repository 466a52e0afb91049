"""The scalar bounds of the specification, compiled: the same text, so that there is one formula to check."""

from __future__ import annotations

from types import FunctionType
from typing import Any

from powsim_kernels.jit import helper
from powsim_kernels.pate import bounds


def _compiled() -> dict[str, Any]:
    space: dict[str, Any] = dict(vars(bounds))
    for name in (
        *("log_erfcx", "log_erfc", "log_phi", "grown", "theorem_6", "rdp_lnmax"),
        *("share_between", "remainder", "bit_divergence", "rdp_screening"),
    ):
        written = getattr(bounds, name)
        space[name] = helper(FunctionType(written.__code__, space, name, written.__defaults__))
    return space


_space = _compiled()
log_erfc, log_erfcx, log_phi = _space["log_erfc"], _space["log_erfcx"], _space["log_phi"]
theorem_6, rdp_lnmax, rdp_screening = _space["theorem_6"], _space["rdp_lnmax"], _space["rdp_screening"]
