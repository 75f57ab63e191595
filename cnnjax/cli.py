"""The `cnnjax` command, whose verbs call public functions, and the experiments' command line."""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run the verb."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse ends the list of files at the first option; what follows it are files too.
    if rest and (not hasattr(options, "files") or any(text.startswith("-") for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.files += rest
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
    _add_model_options(verb)
    verb.set_defaults(verb=_summary)

    verb = verbs.add_parser("predict", help="classify image files")
    verb.add_argument(
        "files", nargs="+", metavar="[RUN] IMAGE",
        help="a run directory or a saved model, unless --model names one; then image files: JPEG, "
        "PNG, WebP, GIF, ...",
    )  # fmt: skip
    verb.add_argument("--model", help="a name from `cnnjax list`, with weights of --weights")
    verb.add_argument(
        "--weights", metavar="FILE",
        help="of --model: a Keras, .npz or .safetensors file; default: imagenet, those published",
    )  # fmt: skip
    _add_model_options(verb)
    verb.add_argument("--top", type=int, default=1, help="classes to name per image; default: 1")
    verb.add_argument(
        "--resize", choices=("crop", "stretch", "pad"),
        help="how images come to the model's size; default: the model's own way, mostly crop",
    )  # fmt: skip
    verb.add_argument(
        "--invert", action="store_true",
        help="swap dark and light: dark ink on paper for a model of light digits on black",
    )  # fmt: skip
    verb.set_defaults(verb=_predict)

    _add_looking_inside(verbs)

    verb = verbs.add_parser("data", help="look at data")
    actions = verb.add_subparsers(required=True, metavar="ACTION")
    action = actions.add_parser(
        "scan", help="the pictures of a folder of class folders, and the files that are no good"
    )
    action.add_argument("folder", help="holds a folder per class, or train/, validation/, test/")
    action.set_defaults(verb=_data_scan)

    verb = verbs.add_parser("report", help="write a run's report.html again")
    verb.add_argument("run", help="a run directory")
    verb.add_argument(
        "--smooth", type=float, default=0.0, metavar="FACTOR",
        help="of an exponential moving average through the curves, e.g. 0.8; default: 0, none",
    )  # fmt: skip
    verb.set_defaults(verb=_report)

    verb = verbs.add_parser("results", help="write the table of results from run records")
    verb.add_argument("folders", nargs="*", default=["checkpoints"], metavar="DIR",
                      help="run directories or folders of them; default: checkpoints")  # fmt: skip
    verb.add_argument("--out", default="RESULTS.md", metavar="FILE", help="default: RESULTS.md")
    verb.set_defaults(verb=_results)

    verb = verbs.add_parser(
        "reproduce", help="run a record once more and compare every bit; exit status 0 if the same"
    )
    verb.add_argument("run", help="a run directory")
    verb.add_argument("--data-dir", help="where TensorFlow Datasets keeps its data")
    verb.add_argument("--out", metavar="DIR", help="keep the new run there; default: nowhere")
    verb.set_defaults(verb=_reproduce)

    verb = verbs.add_parser("doctor", help="what is here, what is missing, how to get it")
    verb.add_argument("--data-dir", help="a TensorFlow Datasets directory to look in")
    verb.set_defaults(verb=_doctor)
    return parser


def _add_looking_inside(verbs: Any) -> None:
    """The verbs that draw what is inside a model."""
    verb = verbs.add_parser("activations", help="draw the feature maps of layers for photos")
    verb.add_argument(
        "files", nargs="+", metavar="[RUN] PHOTO",
        help="a run directory or a saved model, unless --model names one; then image files",
    )  # fmt: skip
    _add_source_options(verb)
    verb.add_argument(
        "--layers", nargs="+", metavar="PATTERN",
        help="names or patterns, e.g. 'block1_*'; default: the first 8 layers with maps",
    )  # fmt: skip
    verb.add_argument(
        "--raw", action="store_true",
        help="show the values on a common scale; default: each map normalised for itself",
    )  # fmt: skip
    verb.set_defaults(verb=_activations)

    verb = verbs.add_parser("filters", help="draw patterns that excite the filters of a layer")
    verb.add_argument(
        "run", nargs="?", metavar="RUN",
        help="a run directory or a saved model, unless --model names one",
    )  # fmt: skip
    _add_source_options(verb)
    verb.add_argument("--layer", required=True, help="a name from `cnnjax summary`")
    verb.add_argument(
        "--filters", nargs="+", type=int, metavar="N", help="numbers; default: the first 64"
    )
    verb.add_argument(
        "--recipe", default="classic",
        help="classic: ascent on the pixels, after the activation; fourier: on Fourier "
        "coefficients, before it, for clearer pictures; default: classic",
    )  # fmt: skip
    verb.add_argument("--size", type=int, default=64, help="of a pattern; default: 64")
    verb.add_argument("--steps", type=int, default=40, help="of the ascent; default: 40")
    verb.add_argument("--seed", type=int, default=0, help="of the noise it begins with; default: 0")
    verb.set_defaults(verb=_filters)

    verb = verbs.add_parser("gradcam", help="draw where photos hold what speaks for a class")
    _add_photos(verb)
    verb.add_argument(
        "--target", action="extend", nargs="+", default=[], metavar="CLASS",
        help="numbers or names; several are drawn side by side; default: the class predicted",
    )  # fmt: skip
    verb.set_defaults(verb=_gradcam)

    verb = verbs.add_parser("explain", help="draw a panel of methods, and test what they are worth")
    _add_photos(verb)
    verb.add_argument("--target", metavar="CLASS", help="default: the class predicted")
    verb.add_argument(
        "--methods", nargs="+", metavar="METHOD",
        help="of grad_cam hires_cam grad_cam_plus_plus saliency smooth_grad integrated_gradients "
        "guided_backpropagation occlusion; default: all",
    )  # fmt: skip
    verb.add_argument(
        "--sanity", action="store_true",
        help="randomise the weights from the top; delete and insert what is hot; print the tables",
    )  # fmt: skip
    verb.add_argument(
        "--box", action="append", nargs=5, default=[], metavar=("CLASS", "X0", "Y0", "X1", "Y1"),
        help="around an object of a single photo, in its pixels: print whether the maps for the "
        "class point at it; may be given again",
    )  # fmt: skip
    verb.set_defaults(verb=_explain)


def _add_model_options(verb: argparse.ArgumentParser) -> None:
    """Options for what `create_model` takes."""
    verb.add_argument(
        "--input-shape", nargs=3, type=int, metavar=("H", "W", "C"), help="default: the model's own"
    )
    verb.add_argument("--num-classes", type=int, help="default: the model's own, 10 or 1000")
    verb.add_argument("--alpha", type=float, help="width of mobilenet: 0.25, 0.5, 0.75 or 1")
    verb.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="a further argument of the model, e.g. units=1024,512 for mlp, include_top=False",
    )  # fmt: skip


def _add_source_options(verb: argparse.ArgumentParser) -> None:
    """Options for which model to look into, and for where its pictures go."""
    verb.add_argument("--model", help="a name from `cnnjax list`, with weights of --weights")
    verb.add_argument(
        "--weights", metavar="FILE",
        help="of --model: a Keras, .npz or .safetensors file; default: imagenet, those published",
    )  # fmt: skip
    verb.add_argument(
        "--allow-partial", action="store_true",
        help="take what the file of --weights has; the rest is random, and listed",
    )  # fmt: skip
    _add_model_options(verb)
    verb.add_argument(
        "--out", metavar="DIR", help="default: figures/ in RUN, whose report shows them, or here"
    )


def _add_photos(verb: argparse.ArgumentParser) -> None:
    """What `gradcam` and `explain` share."""
    verb.add_argument(
        "files", nargs="+", metavar="[RUN] PHOTO",
        help="a run directory or a saved model, unless --model names one; then image files",
    )  # fmt: skip
    _add_source_options(verb)
    verb.add_argument(
        "--layer", help="of the class activation maps; default: the model's last with maps"
    )
    verb.add_argument("--colormap", default="jet", help="viridis, turbo, ...; default: jet")


def _model_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """What `_add_model_options` took, for `create_model`."""
    from cnnjax import paths
    from cnnjax.models import BUILDERS

    settings = [_setting(text) for text in options.set]
    if options.alpha is not None:
        settings.append(("alpha", options.alpha))
    arguments: dict[str, Any] = {}
    known = BUILDERS[options.model].arguments if options.model in BUILDERS else []
    for name, value in settings:
        if name in arguments:
            raise ValueError(f"{name} is given twice: {arguments[name]!r} and {value!r}")
        if known and name not in known:
            hint = paths.suggest(name, known, "arguments")
            raise ValueError(f"model {options.model!r} has no argument {name!r}. {hint}")
        arguments[name] = value
    if options.input_shape:
        arguments["input_shape"] = tuple(options.input_shape)
    return {"num_classes": options.num_classes, **arguments}


def _refuse_model_options(options: argparse.Namespace, what: str) -> None:
    """A saved model is what it is."""
    names = ("weights", "allow_partial", "input_shape", "num_classes", "alpha", "set")
    given = [n for n in names if getattr(options, n, None) not in (None, [], False)]
    if given:
        option = "--" + given[0].replace("_", "-")
        raise ValueError(f"{option} is for a model by name, not for {what}: leave it out")


def _list(options: argparse.Namespace) -> None:
    from cnnjax.models import BUILDERS

    width = max(map(len, BUILDERS))
    for name, builder in BUILDERS.items():
        shape = "x".join(map(str, builder.input_shape))
        print(f"{name:{width}}  {shape:>9}  {builder.description}")


def _summary(options: argparse.Namespace) -> None:
    import cnnjax as cj
    from cnnjax.models.registry import build

    if Path(options.model).is_dir():
        _refuse_model_options(options, options.model)
        print(cj.summary(cj.load(options.model)))
        return
    # Only shapes are needed: the random weights of a large net take their time.
    print(cj.summary(cj.Model.abstract(*build(options.model, **_model_arguments(options)))))


def _setting(text: str) -> tuple[str, Any]:
    """`units=1024,512` to ("units", (1024, 512)); what is no Python literal stays text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set needs NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _predict(options: argparse.Namespace) -> None:
    import cnnjax as cj

    cj.configure_runtime()
    model, files = _model_and_files(options)
    if options.resize:
        model = model.replace(spec=dataclasses.replace(model.spec, resize=options.resize))
    channels = model.spec.input_shape[2]
    pictures, found, missing = [], [], []
    for name in files:
        try:
            picture = cj.data.read_image(name, channels)
        except cj.data.UnreadableImage as error:
            missing.append(str(error))
            continue
        pictures.append(255 - picture if options.invert else picture)
        found.append(name)
    if pictures:
        names = model.spec.label_names or _numbers_without_names(model.spec.num_classes)
        decoded = cj.decode_predictions(cj.predict(model, pictures), options.top, names)
        width = max(map(len, found))
        for name, best in zip(found, decoded, strict=True):
            answers = "  ".join(f"{label} {probability:.4f}" for _, label, probability in best)
            print(f"{name:{width}}  {answers}")
        size = model.spec.input_shape[:2]
        if any(picture.shape[:2] != size for picture in pictures):
            how = cj.data.RESIZE_POLICIES[model.spec.resize]
            print(f"# images were brought to {size[0]}x{size[1]} by {how}")
    if missing:
        raise cj.data.UnreadableImage("; ".join(missing))


def _numbers_without_names(num_classes: int) -> tuple[str, ...]:
    """() where classes can be named; their numbers, and a word why, where ImageNet's cannot be."""
    from cnnjax.models.imagenet import IMAGENET_CLASSES, class_names

    if num_classes == IMAGENET_CLASSES:
        try:
            class_names()
        except OSError as error:
            print(f"classes have numbers instead of names: {error}", file=sys.stderr)
            return tuple(map(str, range(num_classes)))
    return ()


def _model_and_files(options: argparse.Namespace, head: bool = True) -> tuple[Any, list[str]]:
    """The model to ask and the image files: the first file is a run where no model is named."""
    if options.model:
        return _model_of_a_file(options, head), options.files
    run, *files = options.files
    _refuse_model_options(options, f"the run {run}")
    if not files:
        raise ValueError(f"there is no image after {run}: give RUN IMAGE ..., or --model and IMAGE")
    return _model_of_a_run(run), files


def _model_of_a_run(run: str) -> Any:
    """The model of a run directory; of a classifier of features the whole one, with its base."""
    import cnnjax as cj

    whole = Path(run) / "model"
    return cj.load(whole if (whole / "model.json").is_file() else run)


def _pictures_folder(options: argparse.Namespace, run: str) -> Path:
    """Where pictures go: --out, or figures/ in the run or, where a model is named, here."""
    if options.out:
        return Path(options.out)
    return Path("figures") if options.model else Path(run) / "figures"


def _model_of_a_file(options: argparse.Namespace, head: bool = True) -> Any:
    """A model by name with weights; what is worth a warning in Python is a line here.

    Args:
        options: of the verb.
        head: whether one without the weights of its head is of no use.
    """
    import cnnjax as cj
    from cnnjax.models.pretrained import NewHead

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model = cj.create_model(
            options.model,
            weights=options.weights or "imagenet",
            allow_partial=getattr(options, "allow_partial", False),
            **_model_arguments(options),
        )
    for warning in caught:
        if head and issubclass(warning.category, NewHead):
            raise ValueError(f"{warning.message}: there is nothing to predict with")
        print(f"warning: {warning.message}", file=sys.stderr)
    return model


def _activations(options: argparse.Namespace) -> None:
    import cnnjax as cj
    from cnnjax import gallery

    cj.configure_runtime()
    folder = _pictures_folder(options, options.files[0])
    model, files = _model_and_files(options, head=False)
    table, pictures = gallery.draw_activations(model, files, folder, options.layers, options.raw)
    width = max(map(len, table))
    print(f"{'layer':{width}}  zeros  dead maps  dead for all photos")
    for name, row in table.items():
        print(f"{name:{width}}  {row.zeros:5.3f}  {row.dead_maps:9.3f}  {row.dead_for_all:19.3f}")
    _print_lines(pictures)


def _filters(options: argparse.Namespace) -> None:
    import cnnjax as cj
    from cnnjax import gallery
    from cnnjax.explain.filters import describe_dead

    cj.configure_runtime()
    if bool(options.run) == bool(options.model):
        raise ValueError("give either a RUN or --model, the model to look into")
    folder = _pictures_folder(options, options.run)
    if options.model:
        model = _model_of_a_file(options, head=False)
    else:
        _refuse_model_options(options, f"the run {options.run}")
        model = _model_of_a_run(options.run)
    found, picture = gallery.draw_filters(
        model, options.layer, folder, options.filters, options.size, options.steps, options.seed,
        options.recipe,
    )  # fmt: skip
    if found.dead:
        print(f"warning: {describe_dead(options.layer, found.dead)}", file=sys.stderr)
    _print_lines([picture])


def _gradcam(options: argparse.Namespace) -> None:
    import cnnjax as cj
    from cnnjax import gallery

    cj.configure_runtime()
    folder = _pictures_folder(options, options.files[0])
    model, files = _model_and_files(options)
    targets = [_class(text) for text in options.target]
    with _warnings_as_lines():
        pictures = gallery.draw_gradcam(
            model, files, folder, options.layer, targets, options.colormap
        )
    _print_lines(pictures)


def _explain(options: argparse.Namespace) -> None:
    import cnnjax as cj
    from cnnjax import gallery

    cj.configure_runtime()
    folder = _pictures_folder(options, options.files[0])
    model, files = _model_and_files(options)
    if options.box and len(files) != 1:
        raise ValueError(f"--box is for a single photo, got {len(files)}")
    boxes = [(_class(name), _whole_numbers(corners)) for name, *corners in options.box]
    target = None if options.target is None else _class(options.target)
    with _warnings_as_lines():
        pictures, maps = gallery.draw_methods(
            model, files, folder, options.layer, target, options.methods, options.colormap
        )
        if options.sanity:
            more, tables = gallery.draw_sanity(model, files, folder, maps, options.layer, target)
            pictures += more
            print(tables + "\n")
        if boxes:
            table = gallery.pointing_table(model, files[0], boxes, options.layer, options.methods)
            print(table + "\n")
    _print_lines(pictures)


def _class(text: str) -> int | str:
    """A class by number or by name."""
    return int(text) if text.removeprefix("-").isdecimal() else text


def _whole_numbers(texts: Sequence[str]) -> tuple[int, ...]:
    if not all(text.isdecimal() for text in texts):
        raise ValueError(f"--box needs four whole numbers after the class, got {' '.join(texts)}")
    return tuple(map(int, texts))


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """What is worth a warning in Python is a line here."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"warning: {text}", file=sys.stderr)


def _print_lines(lines: Sequence[Any]) -> None:
    for line in lines:
        print(line)


def _data_scan(options: argparse.Namespace) -> None:
    from cnnjax.data import scan_folder

    print(scan_folder(options.folder, progress=print))


def _report(options: argparse.Namespace) -> None:
    from cnnjax.report import write_report

    print(write_report(options.run, options.smooth))


def _results(options: argparse.Namespace) -> None:
    from cnnjax.results import write_results

    print(write_results(options.folders, options.out))


def _reproduce(options: argparse.Namespace) -> None:
    from cnnjax.reproduction import reproduce
    from cnnjax.runtime import configure_runtime

    configure_runtime()
    found = reproduce(options.run, data_dir=options.data_dir, out=options.out)
    print(found)
    if not found.same:
        raise SystemExit(1)


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
    if absent:
        print(f"{'not here':18} {', '.join(absent)}. {data.how_to_get('NAME')}")


def command(main: Callable[[Any], Any], kind: type, name: str) -> None:
    """Run an experiment's `main` from the command line, with options from its dataclass.

    Args:
        main: takes the parsed options.
        kind: their dataclass; its docstrings are the help.
        name: of the module in experiments/.
    """
    import tyro

    from cnnjax.runtime import configure_runtime

    module = sys.modules[main.__module__]
    options: Any = tyro.cli(kind, prog=f"python -m experiments.{name}", description=module.__doc__)
    run_as_command(lambda: (configure_runtime(), main(options)))


def run_as_command(action: Callable[[], Any]) -> None:
    """Run an action; an error that the user can mend becomes one line, anything else a traceback.

    CNNJAX_TRACEBACK=1 shows the traceback in any case.
    """
    from cnnjax.training import NonFiniteLoss

    try:
        action()
    except KeyboardInterrupt as error:
        _stop(str(error) or "interrupted", 130, error)
    except (OSError, NonFiniteLoss) as error:
        _stop(str(error), 1, error)
    except ValueError as error:
        # One that a library raised is a bug of ours, and needs its traceback.
        frames = traceback.extract_tb(error.__traceback__)
        ours = bool(frames) and Path(__file__).parent in Path(frames[-1].filename).parents
        if not ours:
            raise
        _stop(str(error), 1, error)


def _stop(message: str, status: int, error: BaseException) -> NoReturn:
    if os.environ.get("CNNJAX_TRACEBACK") == "1":
        raise error
    print(f"error: {message}" if status == 1 else message, file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
