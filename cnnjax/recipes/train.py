"""Train a recipe or a model by its name, with settings as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cnnjax.core.text import suggest
from cnnjax.models import BUILDERS
from cnnjax.recipes import known
from cnnjax.recipes.any_model import ModelTraining, train_model
from cnnjax.recipes.experiment import Experiment, Options, Recipe
from cnnjax.recipes.many import run_seeds
from cnnjax.recipes.typed import told, value_of, with_settings
from cnnjax.training import Run

# Of a recipe these alone are options, and others settings of its training.
_MODEL_ONLY = ("weights", "freeze", "image_size")


def train(name: str, settings: Mapping[str, str], options: Mapping[str, Any]) -> list[Run]:
    """Train a shipped recipe, or a model on data of one's own.

    Args:
        name: of a recipe, or else of a model.
        settings: text by name: of the training, as of `TrainingConfig`; options of the recipe, e.g.
            {"cure": "augmented"}; arguments of the model, e.g. {"alpha": "0.25"}.
        options: what is given of `Options` and `RecipeOptions`; for a model also weights, freeze
            and image_size, as of `ModelTraining`.

    Returns:
        The runs, one a seed.

    Raises:
        ValueError: for an unknown name (offers the nearest), or what cannot be honoured.
    """
    if name in known.names():
        return _train_recipe(known.by_name(name), name, settings, options)
    if name in BUILDERS:
        return _train_model(name, settings, options)
    hint = suggest(name, [*known.names(), *BUILDERS], "recipes and models")
    raise ValueError(f"there is no recipe or model {name!r}. {hint}")


def _train_recipe(
    recipe: Recipe, name: str, settings: Mapping[str, str], options: Mapping[str, Any]
) -> list[Run]:
    hints = get_type_hints(recipe.options)
    _check_options(name, options, hints)
    own = {n: text for n, text in settings.items() if n in hints}
    rest = {n: text for n, text in settings.items() if n not in own}
    given = _together(options, {n: _option(n, text, hints[n]) for n, text in own.items()})
    chosen = recipe.options(**given)

    def make(one: Options) -> Experiment:
        plan = recipe.experiment(one)
        training = with_settings(plan.training, rest)
        return replace(
            plan, training=training, changed={**plan.changed, **told(training, plan.training)}
        )

    return run_seeds(make, chosen)


def _check_options(name: str, options: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """Refuse what a recipe would ignore.

    Args:
        name: of the recipe.
        options: that are given.
        hints: types of those that it has.
    """
    for option in _MODEL_ONLY:
        if option in options:
            raise ValueError(
                f"{option} is for a model by its name, e.g. resnet50, and {name} is a recipe, which"
                " has its own: leave it out"
            )
    if "recipe" in options:
        if "recipe" not in hints:
            raise ValueError(
                f"recipe={options['recipe']!r}: {name} has one recipe only: leave it out"
            )
        _option("recipe", options["recipe"], hints["recipe"])


def _train_model(name: str, settings: Mapping[str, str], options: Mapping[str, Any]) -> list[Run]:
    if "recipe" in options:
        raise ValueError(
            f"recipe={options['recipe']!r} is for a recipe, one of {', '.join(known.names())}, and "
            f"{name} is a model: leave it out"
        )
    if "data" not in options and "data" not in settings:
        raise ValueError(f"which data? Give {name} --data FOLDER, a file or the name of a data set")
    hints, own_hints = get_type_hints(Options), get_type_hints(BUILDERS[name].module)
    own = {n: text for n, text in settings.items() if n in hints}
    known_arguments = BUILDERS[name].arguments
    arguments = {
        n: value_of(text, own_hints.get(n, Any))
        for n, text in settings.items()
        if n in known_arguments
    }
    given = _together(options, {n: _option(n, text, hints[n]) for n, text in own.items()})
    rest = {n: text for n, text in settings.items() if n not in own and n not in arguments}
    return train_model(ModelTraining(**given, model=name, arguments=arguments, settings=rest))


def _together(options: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Options given in either way, each once."""
    for name in more:
        if name in options:
            raise ValueError(f"{name} is given twice: {options[name]!r} and {more[name]!r}")
    return {**options, **more}


def _option(name: str, text: str, kind: Any) -> Any:
    """The value of an option of a recipe; of a choice one of these."""
    parts = (kind, *get_args(kind))
    choices = [c for part in parts if get_origin(part) is Literal for c in get_args(part)]
    if choices and text not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {text!r}")
    if choices or str in parts:
        return text
    value = value_of(text, kind)
    if int in parts and value is not None and not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {text!r}")
    return value
