"""A small family with PyTorch's names, every layout that weight files have, and its state dict."""

import contextlib

import numpy as np
from flax import linen

from cnnjax.models import BUILDERS, register
from cnnjax.models.torch_names import TorchNames
from cnnjax.nn import BatchNormalization, Conv2D, Dense, DepthwiseConv2D, Flatten, SeparableConv2D

NAMES = (
    ("stem.conv", "stem"),
    ("stem.bn", "stem_bn"),
    ("blocks.{n}.dw", "block{n+1}_dw"),
    ("blocks.{n}.sep", "block{n+1}_sep/depthwise_kernel"),
    ("blocks.{n}.point", "block{n+1}_sep/pointwise_kernel"),
    ("squeeze", "squeeze"),
    ("fc", "logits"),
)


@contextlib.contextmanager
def registered(*tables, name="small_torch"):
    """The family as a model, for as long as the test lasts."""

    @register(
        name,
        (6, 5, 3),
        head=("logits",),
        num_classes=4,
        foreign=tables or (TorchNames("torchvision", NAMES, {"origin": "torch"}),),
    )
    class SmallTorch(linen.Module):
        """Convolution, norm, depthwise, separable, flatten and dense."""

        num_classes: int = 4
        origin: str = "keras"
        until: str | None = None

        @linen.compact
        def __call__(self, x, train=False):
            x = Conv2D(4, 3, use_bias=self.origin == "keras", name="stem")(x)
            x = BatchNormalization(name="stem_bn")(x, train)
            x = DepthwiseConv2D(2, depth_multiplier=2, name="block1_dw")(x)
            x = SeparableConv2D(6, 1, use_bias=False, name="block1_sep")(x)
            x = Dense(3, name="squeeze")(x)
            x = Flatten(name="flatten")(x)
            return Dense(self.num_classes, name="logits")(x)

    try:
        yield name
    finally:
        BUILDERS.pop(name)


def state_dict(seed=0, classes=4):
    """Random arrays under PyTorch's names and in its layouts."""
    generator = np.random.default_rng(seed)
    shapes = {
        "stem.conv.weight": (4, 3, 3, 3),
        "stem.bn.weight": (4,),
        "stem.bn.bias": (4,),
        "stem.bn.running_mean": (4,),
        "stem.bn.running_var": (4,),
        "blocks.0.dw.weight": (8, 1, 2, 2),
        "blocks.0.dw.bias": (8,),
        "blocks.0.sep.weight": (8, 1, 1, 1),
        "blocks.0.point.weight": (6, 8, 1, 1),
        "squeeze.weight": (3, 6, 1, 1),
        "squeeze.bias": (3,),
        "fc.weight": (classes, 3 * 3 * 2),
        "fc.bias": (classes,),
    }
    arrays = {k: generator.normal(size=shape).astype(np.float32) for k, shape in shapes.items()}
    arrays["stem.bn.running_var"] = np.abs(arrays["stem.bn.running_var"]) + 0.5
    arrays["stem.bn.num_batches_tracked"] = np.array(7, np.int64)
    return arrays


def output(arrays, x):
    """What the net of a state dict computes of [N, H, W, C], by NumPy in PyTorch's layouts."""
    x = x.transpose(0, 3, 1, 2)
    x = correlated(x, arrays["stem.conv.weight"])
    x = x - arrays["stem.bn.running_mean"][:, None, None]
    x = x / np.sqrt(arrays["stem.bn.running_var"][:, None, None] + 1e-3)
    x = x * arrays["stem.bn.weight"][:, None, None] + arrays["stem.bn.bias"][:, None, None]
    x = by_channel(x, arrays["blocks.0.dw.weight"]) + arrays["blocks.0.dw.bias"][:, None, None]
    x = by_channel(x, arrays["blocks.0.sep.weight"])
    x = correlated(x, arrays["blocks.0.point.weight"])
    x = correlated(x, arrays["squeeze.weight"]) + arrays["squeeze.bias"][:, None, None]
    return x.reshape(len(x), -1) @ arrays["fc.weight"].T + arrays["fc.bias"]


def correlated(x, kernel):
    """[N, C, H, W] with [O, C, h, w]."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], (2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, kernel)


def by_channel(x, kernel):
    """[N, C, H, W] with [C M, 1, h, w], of which M neighbours take one channel."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], (2, 3))
    windows = windows.repeat(kernel.shape[0] // x.shape[1], axis=1)
    return np.einsum("nchwij,cij->nchw", windows, kernel[:, 0])
