"""Callbacks for other people's trainers; each needs the package that it is for."""
