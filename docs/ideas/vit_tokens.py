"""A vision transformer of one's own, trained by `fit`, and Grad-CAM at its tokens."""

import jax.numpy as jnp
from flax import linen

import cnnjax as cj


class ViT(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Conv(16, (7, 7), (7, 7), name="patches")(x).reshape(len(x), 16, 16)
        x = x + self.param("places", linen.initializers.normal(0.02), (1, 16, 16))
        attend = linen.MultiHeadDotProductAttention(2, name="attend")
        x = x + attend(linen.LayerNorm(name="norm")(x))
        return linen.Dense(10, name="logits")(x.mean(axis=1))


data, config = cj.data.load("digits"), cj.TrainingConfig(epochs=15, optimizer="adam", resume=True)
run = cj.fit(
    cj.Model.from_module(ViT(), (28, 28, 1)), data, config, directory="checkpoints/vit_tokens"
)
inputs = run.model.spec.preprocess(jnp.asarray(data.test.inputs[:4]))
heat = cj.explain.grad_cam(run.model, inputs, layer="norm")  # [4, 28, 28]
