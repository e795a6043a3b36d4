"""``python -m snnprof``."""

from snnprof.cli.main import main

main()
