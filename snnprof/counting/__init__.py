"""Counting synaptic operations."""
