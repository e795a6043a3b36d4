"""One file per library: how its models run, and what its neurons compute."""
