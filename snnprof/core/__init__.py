"""Shared by every layer: errors, registries, files, module names, forward hooks."""
