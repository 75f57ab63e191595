"""The `cnnjax` command: every verb calls public functions."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run the verb."""
    from cnnjax.experiment import run_as_command

    options = _parser().parse_args(arguments)
    run_as_command(lambda: options.verb(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cnnjax",
        description="Research with convolutional networks in JAX. Trainings are started by "
        "python -m experiments.NAME.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    verb = verbs.add_parser("list", help="the models")
    verb.set_defaults(verb=_list)

    verb = verbs.add_parser("summary", help="layer table of a model, a saved model or a run")
    verb.add_argument("model", help="a name from `cnnjax list`, or a directory")
    verb.add_argument("--input-shape", nargs=3, type=int, metavar=("H", "W", "C"))
    verb.add_argument("--num-classes", type=int, default=10)
    verb.set_defaults(verb=_summary)

    verb = verbs.add_parser("predict", help="classify image files")
    verb.add_argument("run", help="a run directory or a saved model")
    verb.add_argument("images", nargs="+", metavar="IMAGE")
    verb.add_argument("--top", type=int, default=1, help="classes to name for each image")
    verb.add_argument(
        "--invert", action="store_true",
        help="swap dark and light: dark ink on paper for a model of light digits on black",
    )  # fmt: skip
    verb.set_defaults(verb=_predict)

    verb = verbs.add_parser("report", help="write a run's report.html again")
    verb.add_argument("run")
    verb.set_defaults(verb=_report)

    verb = verbs.add_parser("doctor", help="what is here, what is missing, how to get it")
    verb.add_argument("--data-dir", help="a TensorFlow Datasets directory to look in")
    verb.set_defaults(verb=_doctor)
    return parser


def _list(options: argparse.Namespace) -> None:
    from cnnjax.models import BUILDERS

    width = max(map(len, BUILDERS))
    for name, builder in BUILDERS.items():
        shape = "x".join(map(str, builder.input_shape))
        print(f"{name:{width}}  {shape:>8}  {builder.description}")


def _summary(options: argparse.Namespace) -> None:
    import cnnjax as cj

    if Path(options.model).is_dir():
        print(cj.summary(cj.load(options.model)))
        return
    shape = tuple(options.input_shape) if options.input_shape else None
    model = cj.create_model(options.model, input_shape=shape, num_classes=options.num_classes)
    print(cj.summary(model))


def _predict(options: argparse.Namespace) -> None:
    import cnnjax as cj

    cj.configure_runtime()
    model = cj.load(options.run)
    channels = model.spec.input_shape[2]
    pictures, found, missing = [], [], []
    for name in options.images:
        try:
            picture = cj.data.read_image(name, channels)
        except cj.data.UnreadableImage as error:
            missing.append(str(error))
            continue
        pictures.append(255 - picture if options.invert else picture)
        found.append(name)
    names = model.spec.label_names
    if pictures:
        decoded = cj.decode_predictions(cj.predict(model, pictures), options.top, names)
        width = max(map(len, found))
        for name, best in zip(found, decoded, strict=True):
            answers = "  ".join(f"{label} {probability:.4f}" for _, label, probability in best)
            print(f"{name:{width}}  {answers}")
    if missing:
        raise cj.data.UnreadableImage("; ".join(missing))


def _report(options: argparse.Namespace) -> None:
    from cnnjax.report import write_report

    print(write_report(options.run))


def _doctor(options: argparse.Namespace) -> None:
    from cnnjax import data
    from cnnjax.runtime import cache_directory, configure_runtime, machine, versions

    runtime = configure_runtime()
    for name, version in versions().items():
        print(f"{name:18} {version}")
    for name, value in machine().items():
        print(f"{name:18} {value}")
    print(f"{'allocator':18} {runtime.allocator}")
    print(f"{'compiled programs':18} {runtime.compilation_cache or 'not kept'}")
    cache = cache_directory()
    size = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file()) if cache.is_dir() else 0
    print(f"{'cache':18} {cache} ({size / 2**20:,.0f} MiB; may be deleted at any time)")
    root = data.tfds_directory(options.data_dir)
    found = data.prepared_names(root)
    print(f"{'data directory':18} {root}{'' if root.is_dir() else ' (does not exist)'}")
    print(f"{'data sets':18} {', '.join([*data.EMBEDDED, *found])}")
    absent = [n for n in data.KNOWN if n not in found and n not in data.EMBEDDED]
    for name in absent:
        try:
            data.load(name, data_dir=options.data_dir)
        except data.DataNotFound as error:
            print(f"{'missing':18} {error}")


if __name__ == "__main__":
    main()
