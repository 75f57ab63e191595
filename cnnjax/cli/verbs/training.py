"""The verb train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

from tyro.conf import Positional, UseAppendAction, arg

from cnnjax.cli.options import DataDirectory, whole_numbers
from cnnjax.cli.verb import TRAIN, Verb
from cnnjax.core.places import Place

_POSITIONAL = ("what", "settings", "distributed")


@dataclass(frozen=True, kw_only=True)
class Train(Verb, task=TRAIN):
    """Train a recipe, or a model on data of your own.

    cnnjax train quickstart

    cnnjax train mnist_convnet --recipe tuned --data mnist epochs=3 learning_rate=1e-3

    cnnjax train resnet50 --data photos/ --weights FILE --freeze 'conv[1-4]_*'
    """

    what: Annotated[Positional[str], arg(metavar="RECIPE|MODEL")]
    """A recipe, which has data and settings of its own, or a model of `cnnjax list`."""
    settings: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME=VALUE")] = ()
    """Settings of the training, listed below, e.g. epochs=3 augment.horizontal_flip=true; also
    options of a recipe, e.g. cure=augmented, and arguments of a model, e.g. alpha=0.25."""
    recipe: Annotated[str | None, arg(metavar="NAME")] = None
    """Of a recipe with a reported figure: reported, to the letter, or tuned, our choice; default:
    reported."""
    data: Annotated[Place | None, arg(metavar="NAME|FOLDER|FILE")] = None
    """A folder with a folder of images per class, or with train/, validation/ and test/ of these;
    FILE.npz, FILE.csv or idx files; or the name of a data set: digits, mnist, cifar10, ...;
    default: the recipe's."""
    data_dir: DataDirectory = None
    weights: Annotated[Place | None, arg(metavar="FILE")] = None
    """Of a model: what it begins with, a file or imagenet, those published; default: random."""
    freeze: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="PATTERN")] = ()
    """Layers that stay as they are; may be given again; default: with --weights all but the head;
    none: no layer."""
    image_size: Annotated[tuple[int, int] | None, whole_numbers("H W")] = None
    """To which images of any size are brought; default: the model's own."""
    out: Annotated[Place | None, arg(metavar="DIR")] = None
    """Run directory to write; default: a new one below checkpoints/."""
    seed: Annotated[int | None, arg(metavar="INT")] = None
    """Of everything random; default: 0."""
    seeds: Annotated[int | None, arg(metavar="INT")] = None
    """Number of runs, with the seeds seed, seed + 1, ...; mean and spread are printed."""
    resume: bool = False
    """Go on with the run in --out, or the newest one of the same name and seed."""
    allow_changed: UseAppendAction[tuple[str, ...]] = ()
    """With --resume: what may differ from what the run was started with; may be given again."""
    profile: Annotated[Place | None, arg(metavar="DIR")] = None
    """Measure some steps of each training and trace others, into a folder below DIR."""
    distributed: bool = False
    """One of several processes that train together, as of an experiment."""

    def run(self) -> None:
        """Train."""
        from cnnjax.cli.running import quiet_but_first
        from cnnjax.core.runtime import configure_runtime
        from cnnjax.recipes.train import train
        from cnnjax.recipes.typed import pairs

        names = [f.name for f in fields(self) if f.name not in _POSITIONAL]
        values: dict[str, Any] = {name: getattr(self, name) for name in names}
        given = {
            name: v for name, v in values.items() if v is not None and v is not False and v != ()
        }
        settings = pairs(self.settings)
        configure_runtime(distributed=self.distributed)
        with quiet_but_first():
            train(self.what, settings, given)

    @classmethod
    def instead_of(cls, option: str) -> str:
        """Settings are given without dashes."""
        from cnnjax.config import TrainingConfig
        from cnnjax.core.habits import SETTINGS

        name = option.lstrip("-").partition("=")[0].replace("-", "_")
        name = SETTINGS.get(name, name)
        known = name in TrainingConfig.__dataclass_fields__
        return f"A setting has no dashes: {name}=VALUE" if known else ""

    @classmethod
    def more_help(cls, arguments: Sequence[str]) -> str:
        """The recipes, and every setting; the values of the recipe that is named."""
        from cnnjax.cli.settings_help import settings_help

        return settings_help(next((a for a in arguments if not a.startswith("-")), None))
