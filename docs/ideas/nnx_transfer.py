"""A module of Flax NNX: trained, its convolution frozen under a new head, and explained."""

import jax.numpy as jnp
from flax import nnx

import cnnjax as cj


class Net(nnx.Module):
    def __init__(self, classes, rngs):
        self.conv = nnx.Conv(1, 8, (3, 3), strides=(4, 4), rngs=rngs)
        self.head = nnx.Linear(8 * 49, classes, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.conv(x)).reshape(len(x), -1))


data, config = cj.data.load("digits"), cj.TrainingConfig(epochs=2, resume=True)
digits = cj.Model.from_nnx(Net(10, nnx.Rngs(0)), (28, 28, 1))
module = cj.fit(digits, data, config, directory="checkpoints/digits").model.to_nnx()
module.head = nnx.Linear(8 * 49, 2, rngs=nnx.Rngs(1))
model = cj.Model.from_nnx(module, (28, 28, 1), label_names=("even", "odd"))
config = cj.TrainingConfig(epochs=2, frozen=("conv",), resume=True)
parity = data.train.inputs, data.train.labels % 2
run = cj.fit(model, parity, config, directory="checkpoints/nnx_transfer/parity")
heat = cj.explain.grad_cam(run.model, jnp.asarray(data.test.inputs[:4] / 255), "conv", "odd")
