"""Sweeps: many scenarios in one folder of shards, which a run that is killed at any moment leaves usable."""
