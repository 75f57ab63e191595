"""Experiments: from a configuration to trained, drawn, reported and compared runs."""

from cnnjax.recipes.experiment import Experiment, ImageData, Options, Recipe, RecipeOptions
from cnnjax.recipes.lines import comparison, result_line
from cnnjax.recipes.many import (
    draw_seeds,
    for_every_seed,
    mean_curve,
    report_seeds,
    run_seeds,
    run_variants,
)
from cnnjax.recipes.run import RUNS, build_model, images_for, load_data, run_experiment
from cnnjax.recipes.train import train
from cnnjax.runs.results import Claim, Measured, write_claims

__all__ = [
    "RUNS",
    "Claim",
    "Experiment",
    "ImageData",
    "Measured",
    "Options",
    "Recipe",
    "RecipeOptions",
    "build_model",
    "comparison",
    "draw_seeds",
    "for_every_seed",
    "images_for",
    "load_data",
    "mean_curve",
    "report_seeds",
    "result_line",
    "run_experiment",
    "run_seeds",
    "run_variants",
    "train",
    "write_claims",
]
