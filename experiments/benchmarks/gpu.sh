#!/bin/sh
# Measures on one GPU within eight minutes: see gpu.py beside it, which takes the same options.
cd "$(dirname "$0")/../.." && exec python -m experiments.benchmarks.gpu "$@"
