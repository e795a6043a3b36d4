"""Training spiking networks, and measuring what a training step costs."""
