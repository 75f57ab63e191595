"""Ideas in a few lines, a runnable file each: python -m experiments.research.NAME --help."""
