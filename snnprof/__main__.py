"""``python -m snnprof``."""

from snnprof.cli import main

main()
