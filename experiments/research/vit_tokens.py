"""A vision transformer trained by fit, and where its tokens hold what speaks for a class.

A ViT of three blocks (Dosovitskiy et al. 2020, arXiv:2010.11929) reads handwritten digits as 7 x 7
patches behind a class token. Grad-CAM at the tokens of a layer finds the grid by itself; several
classes are asked in one forward pass; attention rollout shows where the class token looks, of
whatever class.

Command:   python -m experiments.research.vit_tokens [--out FILE]

Reported:  no figure; an idea in fifteen lines.

Ours:      the figure shows one seed; over several nothing is measured yet.
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from matplotlib.figure import Figure

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.plot import image_grid, overlay


@dataclass(frozen=True)
class Config:
    """Options of the example."""

    epochs: int = 20
    """Of the training."""
    images: int = 4
    """That are drawn."""
    seed: int = 0
    """Of the training."""
    out: str = "vit_tokens.png"
    """The figure."""


class Block(linen.Module):
    """Attention and a dense layer at each token, each added to what it is given."""

    width: int = 48

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, T, width] to the same."""
        attend = linen.MultiHeadDotProductAttention(num_heads=4, name="attend")
        x = x + attend(linen.LayerNorm(name="norm1")(x))
        hidden = linen.Dense(2 * self.width, name="dense1")(linen.LayerNorm(name="norm2")(x))
        return x + linen.Dense(self.width, name="dense2")(jax.nn.gelu(hidden))


class ViT(linen.Module):
    """Patches, a class token, blocks; the logits are those of the class token."""

    depth: int = 3
    patch: int = 4
    width: int = 48

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, 10]."""
        sides = (self.patch, self.patch)
        x = linen.Conv(self.width, sides, sides, name="patches")(x).reshape(len(x), -1, self.width)
        first = self.param("class_token", linen.initializers.zeros, (1, 1, self.width))
        x = jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, self.width)), x], axis=1)
        x = x + self.param("places", linen.initializers.normal(0.02), (1, *x.shape[1:]))
        for i in range(self.depth):
            x = Block(self.width, name=f"block{i}")(x)
        return linen.Dense(10, name="logits")(linen.LayerNorm(name="norm")(x)[:, 0])


def main(config: Config) -> tuple[cj.Run, Figure]:
    """Train, explain, draw."""
    data = cj.data.load("digits")
    model = cj.Model.from_module(ViT(), (28, 28, 1), seed=config.seed)
    training = cj.TrainingConfig(
        epochs=config.epochs, batch_size=64, optimizer="adamw", learning_rate=2e-3,
        schedule="cosine", seed=config.seed,
    )  # fmt: skip
    run = cj.fit(model, data, training)
    test = data.parts["test"]
    pixels = np.asarray(test.inputs[: config.images])
    inputs = run.model.spec.preprocess(jnp.asarray(pixels))
    two = np.argsort(-np.asarray(run.model(inputs)))[:, :2]  # the two classes that are likeliest
    maps = np.asarray(cj.explain.grad_cam(run.model, inputs, "block2/norm1", two))
    rollout = np.asarray(cj.explain.attention_rollout(run.model, inputs))
    images, titles = [], []
    for photo, (first, second), heat, looks in zip(pixels, two, maps, rollout, strict=True):
        images += [photo, *(overlay(photo, each) for each in (*heat, looks))]
        titles += ["", f"for {first}", f"for {second}", "rollout"]
    figure = image_grid(images, titles, 4, width=1.5)
    figure.savefig(Path(config.out))
    print(f"{cj.evaluate(run.model, test)['accuracy']:.2%} of the test digits are right")
    return run, figure


if __name__ == "__main__":
    command(main, Config, "research.vit_tokens")
