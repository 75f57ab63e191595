"""Run directories: records, checkpoints, reports, tables of results."""
