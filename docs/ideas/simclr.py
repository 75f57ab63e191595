"""SimCLR: features of two views of each image, without labels (Chen et al. 2020), and a probe."""

import jax
import jax.numpy as jnp
import optax

import cnnjax as cj

data = cj.data.load("digits").with_validation(0.2)
views = cj.augment.Augment(width_shift=3, height_shift=3, rotation=15, zoom=0.1)


def view(key, examples):
    keys = jax.random.split(key, len(examples))
    return jax.vmap(views)(keys, examples.astype(jnp.float32))


def contrast(functions, params, state, batch, key, heat=0.5):
    first, second, noise = jax.random.split(key, 3)
    pair = jnp.concatenate([view(first, batch["examples"]), view(second, batch["examples"])])
    outputs, state = functions.apply_train(params, state, functions.preprocess(pair), noise)
    z = outputs / jnp.linalg.norm(outputs, axis=1, keepdims=True)
    n = len(z) // 2
    there = jnp.tile(batch["mask"] > 0, 2)[None] & ~jnp.eye(2 * n, dtype=bool)
    alike = jnp.where(there, z @ z.T / heat, -1e9)
    partner = (jnp.arange(2 * n) + n) % (2 * n)
    losses = optax.softmax_cross_entropy_with_integer_labels(alike, partner)
    return losses.reshape(2, n).mean(axis=0), cj.training.Aux(outputs[:n], state)


config = cj.TrainingConfig(epochs=3, optimizer="adam", batch_size=128, monitor=None, resume=True)
encoder = cj.create_model("mnist_convnet")
run = cj.fit(encoder, data, config, objective=contrast, directory="checkpoints/simclr/pretrained")
probe = cj.TrainingConfig(epochs=3, frozen=("conv*",), resume=True)
run = cj.fit(run.model, data, probe, directory="checkpoints/simclr/probe")
