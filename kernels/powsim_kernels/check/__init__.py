"""Tests and times every kernel on a GPU machine: `python -m powsim_kernels.check`."""
