"""What a new user does first, with the package alone: run in an empty folder by `.ci/fresh`."""

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ABSENT = ("sklearn", "joblib", "keras", "torch", "tensorflow", "grain", "pytest")


def cnnjax(*arguments: str, status: int = 0) -> str:
    """Run a command, print its first line with the seconds that it took; what it printed."""
    began = time.perf_counter()
    done = subprocess.run(["cnnjax", *arguments], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    print(f"{seconds:6.1f} s  cnnjax {' '.join(arguments)}", flush=True)
    if done.returncode != status:
        sys.exit(f"exit {done.returncode}, not {status}\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr


def main() -> None:
    """Commands, then Python, then what is missing."""
    assert not [name for name in ABSENT if importlib.util.find_spec(name)], "more than the base"
    assert "cnnjax train quickstart" in cnnjax()
    assert "learning_rate=0.001" in cnnjax("train", "--help")
    trained = cnnjax("train", "quickstart", "epochs=3", "--out", "run")
    assert "mnist_convnet test accuracy" in trained
    assert Path("run/report.html").is_file()
    assert "accuracy" in cnnjax("evaluate", "run")

    import numpy as np
    from PIL import Image

    import cnnjax as cj

    assert "jax" not in sys.modules, "import cnnjax takes jax along"
    image = np.asarray(cj.data.load("digits").test.inputs[0])[..., 0]
    Image.fromarray(image).resize((90, 60)).save("photo.png")
    print(cnnjax("predict", "run", "photo.png"))
    cnnjax("gradcam", "run", "photo.png")
    assert Path("run/figures/photo_gradcam.png").is_file()
    assert cj.predict(cj.load("run"), "photo.png").shape == (1, 10)
    cnnjax("doctor")

    for name in ("grain", "tensorboardX", "wandb"):
        assert importlib.util.find_spec(name) is None
    for make in (cj.training.loggers.TensorBoard, cj.training.loggers.WeightsAndBiases):
        assert "pip install 'cnnjax[track]'" in refusal(lambda make=make: make("logs"))
    assert "Did you mean 'quickstart'?" in cnnjax("train", "quickstrat", status=1)


def refusal(call: Callable[[], object]) -> str:
    """The sentence with which something is refused."""
    try:
        call()
    except ValueError as error:
        return str(error)
    sys.exit("what needs another package works without it")


if __name__ == "__main__":
    main()
