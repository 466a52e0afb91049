"""What NVIDIA's management library tells of the devices: energy, power, clock, temperature. None where it is absent.

`pynvml` comes with the package nvidia-ml-py. Devices are named by PCI bus, because CUDA and NVML number them apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def _library() -> Any:
    """Return pynvml, initialised, or None."""
    try:
        import pynvml

        pynvml.nvmlInit()  # counts its callers; once more costs nothing
    except (ImportError, OSError, RuntimeError):
        return None
    except Exception as error:
        if type(error).__module__.split(".")[0] != "pynvml":
            raise
        return None  # NVMLError derives from Exception alone
    return pynvml


def energy_j(buses: Iterable[str]) -> float | None:
    """Return the joules that the devices have drawn together since their driver was loaded, or None."""
    library = _library()
    if library is None:
        return None
    try:
        handles = [library.nvmlDeviceGetHandleByPciBusId(bus.encode()) for bus in buses]
        return float(sum(library.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles)) / 1000.0
    except library.NVMLError:  # chips before Volta do not count
        return None


def reading(bus: str) -> dict[str, float | str | None]:
    """Return {driver, watts, limit_watts, sm_mhz, sm_max_mhz, celsius} of a device; None for what it does not tell."""
    library = _library()
    asked: dict[str, Any] = {
        "driver": lambda n, h: str(n.nvmlSystemGetDriverVersion()),
        "watts": lambda n, h: n.nvmlDeviceGetPowerUsage(h) / 1000.0,
        "limit_watts": lambda n, h: n.nvmlDeviceGetEnforcedPowerLimit(h) / 1000.0,
        "sm_mhz": lambda n, h: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM),
        "sm_max_mhz": lambda n, h: n.nvmlDeviceGetMaxClockInfo(h, n.NVML_CLOCK_SM),
        "celsius": lambda n, h: n.nvmlDeviceGetTemperature(h, n.NVML_TEMPERATURE_GPU),
    }
    values: dict[str, float | str | None] = dict.fromkeys(asked)
    if library is None:
        return values
    for name, ask in asked.items():
        try:
            values[name] = ask(library, library.nvmlDeviceGetHandleByPciBusId(bus.encode()))
        except library.NVMLError:
            values[name] = None
    return values
