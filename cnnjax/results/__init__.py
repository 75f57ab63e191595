"""Results: tables made from run records and nothing else, and what is claimed of the runs."""

from cnnjax.results.claims import Claim, Measured, read_claims, write_claims
from cnnjax.results.paired import Verdict, evaluate
from cnnjax.results.table import Result, collect, spread, write_results

__all__ = [
    "Claim",
    "Measured",
    "Result",
    "Verdict",
    "collect",
    "evaluate",
    "read_claims",
    "spread",
    "write_claims",
    "write_results",
]
