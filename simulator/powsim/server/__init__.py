"""The server in front of the model: a gate, a queue, attacks on the gate, and what they cost either side."""
