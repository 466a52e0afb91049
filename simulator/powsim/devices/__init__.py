"""What solves puzzles: a catalogue of hash rates with their sources."""

from powsim.devices.shipped import KINDS, PROVENANCE, Device, catalogue, closest, source_text

__all__ = ["KINDS", "PROVENANCE", "Device", "catalogue", "closest", "source_text"]
