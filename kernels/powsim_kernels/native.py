"""Machine code for this CPU from LLVM IR, by llvmlite alone, kept in the user's cache folder.

llvmlite is the layer under Numba. Going without Numba's front end is what makes a miner ready at once: importing Numba
and compiling a first trivial function takes about a second of CPU, building and loading a kernel here a fraction of it.
"""

# llvmlite has no types:
# mypy: ignore-errors

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from typing import NamedTuple

import llvmlite
import llvmlite.binding as llvm

from powsim_kernels import unbroken
from powsim_kernels.folders import cache_folder, keep, kept
from powsim_kernels.forks import compiling

_engines = []  # code lives as long as its engine


class Target(NamedTuple):
    """What LLVM compiles for."""

    triple: str
    cpu: str
    features: str  # in LLVM's words: "+avx2,-avx512f"


def host_features() -> dict[str, bool]:
    """Return which features, in LLVM's words, this CPU has."""
    return dict(llvm.get_host_cpu_features())


def host(without: tuple[str, ...] = ()) -> Target:
    """Return this CPU as a target, some of its features switched off."""
    features = host_features() | dict.fromkeys(without, False)
    text = ",".join(f"{'+' if has else '-'}{name}" for name, has in sorted(features.items()))
    return Target(llvm.get_process_triple(), llvm.get_host_cpu_name(), text)


def machine(target: Target):
    """Return LLVM's target machine; opt 2 takes half the time of 3 and makes the same loops."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="default", jit=True
    )


def distrust() -> str:
    """Return what to do about code that gave a wrong answer."""
    return f"its results cannot be trusted; remove {cache_folder('native')}, update numba and llvmlite"


def load(function: str, module: str, build: Callable[[], str], target: Target, arguments: list[type]):
    """Return a function of the module whose IR `build()` returns, callable without the GIL.

    The object code is read from the cache, under a key made of the module's name, the target, the version of llvmlite
    and that of the kernel sources; `build` runs only where it is not there. Raises RuntimeError where LLVM cannot
    compile.
    """
    with compiling, unbroken.stretch():  # one module at a time: MCJIT shares state between engines
        key = hashlib.sha256("\n".join([module, *target, llvmlite.__version__]).encode()).hexdigest()
        code = kept("native", key)
        compiler = machine(target)
        if code is None:
            code = compiler.emit_object(llvm.parse_assembly(build()))
            keep("native", key, code)
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(f'target triple = "{target.triple}"'), compiler)
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        _engines.append(engine)
        return ctypes.CFUNCTYPE(None, *arguments)(engine.get_function_address(function))
