"""What this machine can really do: rates of its solvers and of an honest user's loops, beside the catalogue."""
