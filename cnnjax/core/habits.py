"""What people type who come from Keras or PyTorch, and what it is here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import ParamSpec, TypeVar

from cnnjax.core.text import suggest

Given = ParamSpec("Given")
Result = TypeVar("Result")
Kind = TypeVar("Kind", bound=type)

# Arguments of theirs that are settings of a training here.
SETTINGS = {
    "lr": "learning_rate",
    "batch": "batch_size",
    "bs": "batch_size",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "n_epochs": "epochs",
    "wd": "weight_decay",
    "decay": "weight_decay",
    "optim": "optimizer",
    "scheduler": "schedule",
    "lr_scheduler": "schedule",
    "class_weight": "class_weights",
    "patience": "early_stopping",
    "random_state": "seed",
    "num_workers": "workers",
    "mixed_precision": "precision",
    "ema": "average",
    "clipnorm": "clip_norm",
    "warmup_epochs": "warmup",
}
TO_SETTINGS = {theirs: f"here it is {ours}=" for theirs, ours in SETTINGS.items()}

# Of `fit`, beside the settings by their own names.
TO_CONFIG = {
    name: f"give TrainingConfig({ours}=...) as config"
    for ours in (*SETTINGS.values(), "momentum", "frozen", "augment", "monitor", "resume")
    for name in (ours, *(theirs for theirs, known in SETTINGS.items() if known == ours))
    if name != "optimizer"  # an argument of fit
}
TO_DATA = {
    "x": "data takes (inputs, labels)",
    "y": "data takes (inputs, labels)",
    "train_data": "data takes cj.data.Splits(train, validation, test)",
    "train_loader": "data takes cj.data.from_source(data set) or cj.data.stream(...)",
    "validation_data": "data takes cj.data.Splits(train, validation, test)",
    "validation_split": "data takes splits.with_validation(0.1)",
    "val_data": "data takes cj.data.Splits(train, validation, test)",
    "out": "here it is directory=",
    "save_dir": "here it is directory=",
    "checkpoint_dir": "here it is directory=",
    "criterion": "here it is loss=",
}

# Of `create_model`.
TO_MODEL = {
    "pretrained": "weights='imagenet' takes those published, weights=FILE those of a file",
    "classes": "here it is num_classes=",
    "n_classes": "here it is num_classes=",
    "num_labels": "here it is num_classes=",
    "in_chans": "the channels are the last of input_shape=(H, W, C)",
    "in_channels": "the channels are the last of input_shape=(H, W, C)",
    "img_size": "the size is the first of input_shape=(H, W, C)",
    "checkpoint_path": "here it is weights=",
    "progress": "leave it out",
    "drop_rate": "see help(cj.models.BUILDERS[name].module) for what the model has",
}

# Of the package.
OF_PACKAGE = {
    "load_model": "cj.load(directory)",
    "save_model": "cj.save(model, directory)",
    "load_weights": "cj.create_model(name, weights=file)",
    "Trainer": "cj.fit(model, data, config)",
    "train": "cj.fit(model, data, config)",
    "Sequential": "cj.Model.from_module(linen_module, input_shape)",
    "Dataset": "cj.data.from_arrays(inputs, labels)",
    "DataLoader": "cj.data.from_source(data_set)",
    "grad_cam": "cj.explain.grad_cam(model, inputs)",
    "gallery": "cj.plot.contact_sheet(data_set)",
    "device": "JAX, which takes the accelerator that is there,",
    "manual_seed": "the argument seed of what is random",
}

# Of a `Model`, which is a value, while functions act on it.
OF_MODEL = {
    "fit": "cj.fit(model, data)",
    "compile": "cj.fit(model, data, config, loss=..., metrics=...)",
    "predict": "cj.predict(model, images)",
    "evaluate": "cj.evaluate(model, data)",
    "summary": "cj.summary(model)",
    "save": "cj.save(model, directory)",
    "save_weights": "cj.export_weights(model, file)",
    "load_weights": "cj.create_model(name, weights=file)",
    "load_state_dict": "cj.create_model(name, weights=file)",
    "state_dict": "model.variables",
    "parameters": "model.params",
    "weights": "model.variables",
    "layers": "model.layer_names",
    "named_modules": "model.layer_names",
    "get_layer": "cj.explain.activations(model, inputs, layers)",
    "train": "cj.fit(model, data)",
    "eval": "model(inputs), which is evaluation always,",
    "forward": "model(inputs)",
    "to": "JAX, which takes the accelerator that is there,",
    "cuda": "JAX, which takes the accelerator that is there,",
    "half": "TrainingConfig(precision='bfloat16')",
    "trainable": "TrainingConfig(frozen=(patterns of layers,))",
    "freeze": "TrainingConfig(frozen=(patterns of layers,))",
}


def helpful_settings(kind: Kind) -> Kind:
    """Decorator: an unknown setting of a dataclass is an error that says what it is here."""
    checked = helpful(kind.__name__, TO_SETTINGS)(vars(kind)["__init__"])
    setattr(kind, "__init__", checked)  # noqa: B010
    return kind


def refusal(owner: str, name: str, known: Iterable[str], habits: Mapping[str, str]) -> str:
    """A sentence on an unknown argument, with what it is here or the nearest names.

    Args:
        owner: whose argument it would be.
        name: of it.
        known: the names that there are.
        habits: what others' names are here.

    >>> refusal("TrainingConfig", "lr", ["learning_rate"], TO_SETTINGS)
    "TrainingConfig has no argument 'lr': here it is learning_rate="
    """
    hint = f": {habits[name]}" if name in habits else f". {suggest(name, known, 'arguments')}"
    return f"{owner} has no argument {name!r}{hint}"


def missing(name: str) -> str:
    """A sentence on what a `Model` has not, with what does it here.

    >>> missing("predict")
    "a Model has no 'predict': it is a value, and cj.predict(model, images) does that"
    """
    hint = f": it is a value, and {OF_MODEL[name]} does that" if name in OF_MODEL else ""
    return f"a Model has no {name!r}{hint}"


def not_there(name: str, known: Iterable[str]) -> str:
    """A sentence on what the package has not, with what does it here or the nearest names.

    >>> not_there("load_model", ["load"])
    "cnnjax has no 'load_model': cj.load(directory) does that"
    """
    if name in OF_PACKAGE:
        return f"cnnjax has no {name!r}: {OF_PACKAGE[name]} does that"
    return f"cnnjax has no {name!r}. {suggest(name, known, 'names')}"


def helpful(
    owner: str, habits: Mapping[str, str]
) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]:
    """Decorator: an unknown argument of a function is an error that says what it is here.

    Args:
        owner: what the error calls the function.
        habits: what others' names are here.
    """

    def decorated(function: Callable[Given, Result]) -> Callable[Given, Result]:
        known = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def checked(*args: Given.args, **kwargs: Given.kwargs) -> Result:
            for name in kwargs:
                if name not in known:
                    offered = [other for other in known if other != "self"]
                    raise TypeError(refusal(owner, name, offered, habits))
            return function(*args, **kwargs)

        return checked

    return decorated
