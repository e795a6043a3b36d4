"""What a training step costs: time per phase, memory, traces."""
