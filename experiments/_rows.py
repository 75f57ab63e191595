"""The commands that make the rows and claims of RESULTS.md, for `train_all`.

A row is one line: its group, how many minutes it takes on one core of a CPU, and the experiment
with its options. $CATS stands for the folder cats_vs_dogs_small, $WEIGHTS for the folder with
files of weights. Within a group the most valuable stand first. `--out` and `--resume` are given by
`train_all`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cnnjax.core.storage import text_hash

_LONGEST = 150  # letters of a name

GROUPS = ("reported", "studies", "long")

# MobileNet by the width of its layers.
SMALL = "mobilenet_v1_0.25_224_keras.weights.h5"
LARGE = "mobilenet_v1_1.0_224_dequant.weights.h5"


@dataclass(frozen=True)
class Row:
    """A command and what it costs.

    Args:
        group: reported: a figure was reported for it; studies: claims; long: over an hour on one
            core.
        minutes: on one core of a CPU.
        command: experiment and options.
        resumes: whether it has --resume; else it starts again after an interruption.
    """

    group: str
    minutes: float
    command: str
    resumes: bool = True

    @property
    def needs(self) -> list[str]:
        """Names of the folders that stand for themselves in the command.

        >>> Row("reported", 5, "feature_extraction --data $CATS --weights $WEIGHTS/net.h5").needs
        ['CATS', 'WEIGHTS']
        """
        return sorted(set(re.findall(r"\$([A-Z]+)", self.command)))

    @property
    def name(self) -> str:
        """Of its folder: the same whatever its number of seeds, so that more of them go on there.

        >>> Row("reported", 5, "cats_vs_dogs --data $CATS --seeds 3").name
        'cats_vs_dogs-data-CATS'
        """
        kept = re.sub(r"\s--seeds[ =]\S+", "", self.command)
        name = re.sub(r"[^A-Za-z0-9_.=]+", "-", kept).strip("-")
        # A file's name has 255 letters, of which ".done" takes some.
        return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}-{text_hash(name)}"


_WEIGHTS = f"--weights $WEIGHTS/{SMALL} --seeds 3"
_PHOTOS = f"--data $CATS {_WEIGHTS}"
_NARROW = f"--backbone mobilenet --alpha 0.25 {_PHOTOS}"
_WIDE = f"--backbone mobilenet --data $CATS --weights $WEIGHTS/{LARGE} --seeds 3"
_FEW_CIFAR = "--train-examples 3000 --validation 0.02 --batch-size 32 --epochs 12"

ROWS = (
    Row("reported", 6, "mnist_convnet --seeds 3"),
    Row("reported", 6, "mnist_dense_vs_conv --seeds 3"),
    Row("reported", 32, "cifar10 --model plain --seeds 3"),
    Row("reported", 35, "imdb_conv1d --seeds 3"),
    Row("reported", 3, f"feature_extraction {_NARROW}"),
    Row("reported", 9, f"fine_tuning --epochs 10 {_NARROW}"),
    Row("reported", 4, f"two_stage --image-size 128 {_NARROW}"),
    Row("reported", 45, "mnist_lenet --seeds 3"),
    Row("reported", 2, "quickstart --seeds 3"),
    Row("reported", 10, "mnist_convnet --recipe tuned --seeds 3"),
    Row("reported", 40, "cifar10 --model plain --recipe tuned --seeds 3"),
    Row("reported", 20, "imdb_conv1d --recipe tuned --seeds 3"),
    Row("reported", 30, "mnist_lenet --recipe tuned --seeds 3"),
    Row("reported", 4, f"two_stage --recipe tuned --image-size 128 {_NARROW}"),
    Row("reported", 4, f"own_images $CATS --alpha 0.25 --image-size 128 {_WEIGHTS}"),
    Row("reported", 25, "own_images $CATS --image-size 64 --seeds 3"),
    Row("studies", 14, "shuffled_blocks --seeds 3"),
    Row("studies", 15, "located_targets --seeds 4"),
    Row("studies", 18, f"fine_tuning_gain {_PHOTOS}"),
    Row("studies", 28, f"how_much_to_free {_PHOTOS}"),
    Row("studies", 5, f"extraction_cost {_PHOTOS}"),
    Row("studies", 30, f"cifar_choices {_FEW_CIFAR} --seed 10 --seeds 5"),
    Row("studies", 12, "activation_choice --train-examples 10000 --seeds 5"),
    Row("studies", 9, "downsampling --train-examples 10000 --seeds 5"),
    Row("studies", 8, "pooling_head --train-examples 10000 --seeds 5"),
    Row("studies", 30, "dense_head --heads 1x64 1x4096 1x512 3x512 --seeds 10"),
    Row("studies", 25, "photo_augmentation --data $CATS --sizes 200 --seeds 5"),
    Row("studies", 6, "time_series --seeds 5"),
    Row("studies", 2, "time_series --data google_volume --seeds 8"),
    Row("studies", 30, "conv_or_recurrent --seeds 5"),
    Row("studies", 12, "few_examples --task digits --seeds 3"),
    Row("studies", 8, "few_examples --task reviews --seeds 5"),
    Row("studies", 4, "few_examples --task series --seeds 8"),
    Row("studies", 13, "few_examples --task pets --data $CATS --seeds 3"),
    Row("studies", 10, "jpeg_cost --data $CATS --seeds 10"),
    Row("studies", 18, "jpeg_cost --data cifar10 --seeds 4"),
    Row("studies", 9, "jpeg_cost --data mnist --seeds 4"),
    Row("studies", 31, "separable --recipe reported --train-examples 5000 --seeds 3"),
    Row("studies", 35, "training_size --sizes 100 300 1000 3000 6000 12000 --seeds 3"),
    Row("studies", 30, "im2col_convnet --seeds 3", resumes=False),
    Row("studies", 2, "research.adversarial --seeds 3"),
    Row("studies", 2, "research.distillation --seeds 5"),
    Row("studies", 4, "research.mean_teacher --seeds 3"),
    Row("studies", 3, "research.simclr --seeds 5"),
    Row("studies", 3, "research.sparse --seeds 3"),
    Row("studies", 1, "research.worst_class --seeds 5"),
    Row("studies", 1, "research.wrong_labels --seeds 5"),
    Row("studies", 8, "segmentation --seeds 3"),
    Row("long", 140, "cifar10 --model deep --seeds 3"),
    Row("long", 110, "cats_vs_dogs --data $CATS --seeds 3"),
    Row("long", 400, "cats_vs_dogs --data $CATS --cure augmented --seeds 3"),
    Row("long", 225, "cats_vs_dogs --data $CATS --recipe tuned --seeds 3"),
    Row("long", 110, "cats_vs_dogs --data $CATS --cure dropout --seeds 3"),
    Row("long", 110, "cats_vs_dogs --data $CATS --cure decay --seeds 3"),
    Row("long", 1000, "cifar_choices --seed 10 --seeds 5"),
    Row("long", 180, "cifar10 --model deep --recipe tuned --seeds 3"),
    Row("long", 150, "cifar10 --model deep --augment reported --seeds 3"),
    Row("long", 90, "activation_choice --seeds 5"),
    Row("long", 70, "downsampling --seeds 5"),
    Row("long", 70, "pooling_head --seeds 5"),
    Row("long", 80, "dense_head --seeds 10"),
    Row("long", 300, "pooling_head --model cats_convnet --data $CATS --seeds 5"),
    Row("long", 55, "photo_augmentation --data $CATS --sizes 2000 --seeds 4"),
    Row("long", 240, "separable --seeds 3"),
    Row("long", 170, "separable --recipe reported --seeds 3"),
    Row("long", 200, "separable --data $CATS --image-size 96 --epochs 100 --seeds 3"),
    Row("long", 120, "imdb_conv1d --model gru --seeds 3"),
    Row("long", 120, "imdb_conv1d --model lstm --seeds 3"),
    Row(
        "long", 600,
        "conv_or_recurrent --length 500 --train-examples 20000 --epochs 10 --seeds 5",
    ),
    Row("long", 120, "captcha --seeds 3"),
    Row("long", 120, "captcha --renderer captcha --seeds 3"),
    Row(
        "long", 120,
        "captcha --renderer captcha --symbols 123456789ABCDEFGHIJKLMNPQRSTUVWXYZ --seeds 3",
    ),
    Row("long", 150, "training_size --sizes 30000 60000 --seeds 3"),
    Row("long", 20, f"feature_extraction {_WIDE}"),
    Row("long", 90, f"fine_tuning {_WIDE}"),
)  # fmt: skip
