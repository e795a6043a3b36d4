"""Pricing counted operations."""
