"""A class for every pixel: bright squares on a noisy ground, found by a small U-Net."""

import numpy as np

import cnnjax as cj

rng = np.random.default_rng(0)
truth = np.zeros((96, 16, 16), np.int32)
for mask, (top, left) in zip(truth, rng.integers(0, 10, (96, 2)), strict=True):
    mask[top : top + 6, left : left + 6] = 1
images = (rng.integers(0, 120, truth.shape) + 100 * truth).astype(np.uint8)
data = cj.data.Splits(cj.data.from_arrays(images, truth, ["ground", "square"], task="dense"))
model = cj.create_model("unet", input_shape=(16, 16, 1), num_classes=2, filters=(8, 16))
config = cj.TrainingConfig(
    epochs=12, batch_size=16, optimizer="adam", learning_rate=0.01, monitor="iou", resume=True,
    augment=cj.augment.Augment(horizontal_flip=True, width_shift=2, height_shift=2),
)  # fmt: skip
metrics = {"iou": cj.metrics.mean_iou()}
splits = data.with_validation(0.25)
run = cj.fit(model, splits, config, metrics=metrics, directory="checkpoints/segmentation")
