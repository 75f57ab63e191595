"""Results: tables made from run records and nothing else, and what is claimed of the runs."""

from cnnjax.runs.results.claims import Claim, Measured, read_claims, write_claims
from cnnjax.runs.results.collect import collect
from cnnjax.runs.results.keep import keep_records
from cnnjax.runs.results.paired import Verdict, evaluate
from cnnjax.runs.results.results_table import write_results
from cnnjax.runs.results.rows import Result, spread

__all__ = [
    "Claim",
    "Measured",
    "Result",
    "Verdict",
    "collect",
    "evaluate",
    "keep_records",
    "read_claims",
    "spread",
    "write_claims",
    "write_results",
]
