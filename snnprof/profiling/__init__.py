"""The cost of a training step: time per phase, memory, traces."""
