"""Data of another library, here Hugging Face: what has a length and gives examples by number."""

import datasets
import numpy as np

import cnnjax as cj

images, labels = np.arange(64 * 36).reshape(64, 6, 6).astype(np.uint8), np.arange(64) % 10
table = datasets.Dataset.from_dict({"pixels": images, "digit": labels}).with_format("numpy")
data = cj.data.from_source(table, inputs="pixels", labels="digit")
model, config = cj.create_model("mlp", input_shape=(6, 6, 1)), cj.TrainingConfig(resume=True)
run = cj.fit(model, data, config, directory="checkpoints/own_source")
