"""Several labels at once: which of three corners of an image are bright."""

import numpy as np

import cnnjax as cj

rng = np.random.default_rng(0)
labels = rng.integers(0, 2, (512, 3))
images = rng.integers(0, 100, (512, 12, 12)).astype(np.uint8)
for k, corner in enumerate([np.s_[:, :4, :4], np.s_[:, :4, 8:], np.s_[:, 8:, :4]]):
    images[corner] += (100 * labels[:, k, None, None]).astype(np.uint8)
data = cj.data.from_arrays(images, labels, ["left", "right", "below"], task="multilabel")
model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, task="multilabel")
config, metrics = cj.TrainingConfig(epochs=3, resume=True), {"f1": cj.metrics.f1()}
run = cj.fit(model, data, config, metrics=metrics, directory="checkpoints/multilabel")
