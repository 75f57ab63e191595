"""Results: tables made from run records and nothing else, and what is claimed of the runs."""

from cnnjax.results.claims import Claim, Measured, read_claims, write_claims
from cnnjax.results.collect import collect
from cnnjax.results.keep import keep_records
from cnnjax.results.paired import Verdict, evaluate
from cnnjax.results.rows import Result, spread
from cnnjax.results.table import write_results

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
