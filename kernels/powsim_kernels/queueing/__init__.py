"""Waiting lines: many independent queues, k servers each, first come first served, exact to the last bit."""

from powsim_kernels.queueing.contract import GAVE_UP, NO_JOB, REFUSED, SERVED, QueueResult, queue

__all__ = ["GAVE_UP", "NO_JOB", "REFUSED", "SERVED", "QueueResult", "queue"]
