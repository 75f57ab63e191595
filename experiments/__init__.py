"""One runnable file a system: python -m experiments.NAME --help, or python experiments/NAME.py."""
