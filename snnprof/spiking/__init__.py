"""Spiking neurons, and the frame that runs a network over time steps."""
