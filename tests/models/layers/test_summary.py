"""The layer table: by hand, against XLA's count of operations and against what pixels see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from cnnjax.models import BUILDERS, Model, create_model, summary
from cnnjax.nn import Conv2D, Dense, Flatten, MaxPooling2D, conv_engine, im2col

# A failing example is not made smaller, since every try would compile a program.
SETTINGS = settings(deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])

# SYSTEMS.md, A1; operations and receptive fields by hand.
MNIST_CONVNET = [
    ("conv1", "Conv2D", (26, 26, 32), 320, 2 * 9 * 1 * 32 * 26 * 26, (3, 3)),
    ("pool1", "MaxPooling2D", (13, 13, 32), 0, 0, (4, 4)),
    ("conv2", "Conv2D", (11, 11, 64), 18_496, 2 * 9 * 32 * 64 * 11 * 11, (8, 8)),
    ("pool2", "MaxPooling2D", (5, 5, 64), 0, 0, (10, 10)),
    ("conv3", "Conv2D", (3, 3, 64), 36_928, 2 * 9 * 64 * 64 * 3 * 3, (18, 18)),
    ("flatten", "Flatten", (576,), 0, 0, "all"),
    ("dense1", "Dense", (64,), 36_928, 2 * 576 * 64, "all"),
    ("logits", "Dense", (10,), 650, 2 * 64 * 10, "all"),
]


def test_the_table_of_the_mnist_convnet():
    table = summary(create_model("mnist_convnet"))
    rows = [
        (r.name, r.kind, r.output_shape, r.parameters, r.flops, r.receptive_field)
        for r in table.rows
    ]
    assert rows == MNIST_CONVNET
    assert (table.parameters, table.trainable) == (93_322, 93_322)
    assert table.flops == sum(row[4] for row in MNIST_CONVNET)


def test_the_table_prints():
    assert str(summary(create_model("mnist_convnet"))).splitlines() == [
        "mnist_convnet, input 28x28x1, 10 classes",
        "   layer    kind            output  parameters      FLOPs  receptive field",
        "--------------------------------------------------------------------------",
        "0  conv1    Conv2D        26x26x32         320    389,376              3x3",
        "1  pool1    MaxPooling2D  13x13x32           0          0              4x4",
        "2  conv2    Conv2D        11x11x64      18,496  4,460,544              8x8",
        "3  pool2    MaxPooling2D    5x5x64           0          0            10x10",
        "4  conv3    Conv2D          3x3x64      36,928    663,552            18x18",
        "5  flatten  Flatten            576           0          0              all",
        "6  dense1   Dense               64      36,928     73,728              all",
        "7  logits   Dense               10         650      1,280              all",
        "--------------------------------------------------------------------------",
        "   total                                93,322  5,588,480",
    ]


@pytest.mark.parametrize("name", sorted(n for n, b in BUILDERS.items() if b.num_classes == 10))
@pytest.mark.thorough
def test_operations_agree_with_xlas_count(name, monkeypatch):
    monkeypatch.setattr(im2col, "_SPLIT_BELOW", 0)  # the split form multiplies rows it cuts off
    monkeypatch.setattr(im2col, "fold_size", lambda *_: 1)  # the folded form multiplies zeros
    model = create_model(name)
    inputs = jax.ShapeDtypeStruct((1, *model.spec.input_shape), jnp.float32)
    with conv_engine("im2col"):
        # Before optimisation: fusion would compute (and count) cheap things several times.
        cost = jax.jit(model.module.apply).lower(model.variables, inputs).cost_analysis()
    # XLA counts additions of biases, maxima and comparisons as well: more where kernels are small.
    assert 1 < cost["flops"] / summary(model).flops < 1.06


class Stack(linen.Module):
    """Windows one after the other: [("conv" | "pool", size, strides, dilation), ...]."""

    windows: tuple
    padding: str

    @linen.compact
    def __call__(self, x):
        for i, (kind, size, strides, dilation) in enumerate(self.windows):
            if kind == "conv":
                layer = Conv2D(
                    1, size, strides, self.padding, dilation, activation=jax.nn.relu, name=f"w{i}"
                )
            else:
                layer = MaxPooling2D(size, strides, self.padding, name=f"w{i}")
            x = layer(x)
        return Dense(2, name="logits")(Flatten(name="flatten")(x))


def seen_by_one_pixel(model, rows, columns):
    """For each layer, the rows and columns that one of its inner pixels depends on.

    Image r is infinite in row r, image `rows + c` in column c, and all kernels are positive:
    a pixel is infinite where it sees that.
    """
    variables = jax.tree.map(lambda leaf: jnp.abs(leaf) + 1, model.variables)
    images = np.zeros((rows + columns, rows, columns, 1), np.float32)
    images[np.arange(rows), np.arange(rows)] = np.inf
    images[rows + np.arange(columns), :, np.arange(columns)] = np.inf
    with conv_engine("lax"):  # in Winograd's tiles an infinity would meet another one
        _, state = jax.jit(lambda v, x: model.module.apply(v, x, capture_intermediates=True))(
            variables, images
        )
    outputs = {k: v["__call__"][0] for k, v in state["intermediates"].items() if k != "__call__"}
    measured = {}
    for name, output in outputs.items():
        if output.ndim != 4:
            continue
        pixel = np.isposinf(output[:, output.shape[1] // 2, output.shape[2] // 2, 0])
        spans = [np.flatnonzero(part) for part in (pixel[:rows], pixel[rows:])]
        measured[name] = tuple(int(span[-1] - span[0] + 1) for span in spans), spans
    return measured


@pytest.mark.thorough
@settings(SETTINGS, max_examples=8)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["conv", "pool"]),
            st.tuples(st.integers(1, 3), st.integers(1, 4)),
            st.tuples(st.integers(1, 2), st.integers(1, 2)),
            st.tuples(st.integers(1, 2), st.integers(1, 2)),
        ),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(["valid", "same"]),
)
def test_receptive_fields_are_what_a_pixel_sees(windows, padding):
    size = 65
    model = Model.from_module(Stack(tuple(windows), padding), (size, size, 1))
    measured = seen_by_one_pixel(model, size, size)
    rows = {row.name: row.receptive_field for row in summary(model).rows}
    assert set(measured) == {f"w{i}" for i in range(len(windows))}
    for name, (extent, spans) in measured.items():
        assume(all(span[0] > 0 and span[-1] < size - 1 for span in spans))  # not cut off
        assert rows[name] == extent


@pytest.mark.thorough
def test_the_receptive_fields_of_the_mnist_convnet_are_measured_too():
    model = create_model("mnist_convnet", input_shape=(64, 64, 1))
    measured = seen_by_one_pixel(model, 64, 64)
    found = {name: extent for name, (extent, _) in measured.items()}
    assert found == {row[0]: row[5] for row in MNIST_CONVNET[:5]}


class Shared(linen.Module):
    """A convolution used twice, a BatchNorm, a function that is no module, a sum of branches."""

    def setup(self):
        self.conv = Conv2D(4, 3, padding="same")
        self.norm = linen.BatchNorm(use_running_average=True)
        self.wide = linen.Conv(4, (5, 1), strides=2, kernel_dilation=3, use_bias=False)
        self.logits = linen.Dense(3)

    def __call__(self, x):
        x = self.norm(self.conv(self.conv(x)))
        return self.logits(jnp.sin(self.wide(x)).mean(axis=(1, 2)))


def test_layers_used_twice_statistics_and_plain_functions():
    model = Model.from_module(Shared(), (16, 16, 4), train_argument=False)
    table = summary(model)
    rows = {row.name: row for row in table.rows}
    assert list(rows) == ["conv", "norm", "wide", "logits"]
    once = 2 * 9 * 4 * 4 * 16 * 16
    assert (rows["conv"].parameters, rows["conv"].flops) == (148, 2 * once)
    assert rows["norm"].parameters == 16  # scale, bias, mean, variance
    assert rows["wide"].output_shape == (8, 8, 4)
    assert (rows["conv"].receptive_field, rows["norm"].receptive_field) == ((5, 5), (5, 5))
    assert rows["wide"].receptive_field == (5 + 4 * 3, 5)
    assert rows["logits"].receptive_field is None  # the sine and the mean are no modules
    assert (table.parameters, table.trainable) == (148 + 16 + 80 + 15, 148 + 8 + 80 + 15)
    assert str(table).splitlines()[-1] == f"trainable: {table.trainable}"
    assert repr(table) == str(table)
    assert table._repr_html_().count("<tr>") == len(table.rows) + 2
    assert table._repr_html_().endswith(f"<p>trainable: {table.trainable}</p>")
    assert str(table).splitlines()[-4].split()[1] == "logits"
    assert str(table).splitlines()[-4].endswith("-")


class Block(linen.Module):
    @linen.compact
    def __call__(self, x):
        return Conv2D(2, 3, name="conv")(x) * self.param("gain", linen.initializers.ones, ())


class WithBlock(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = Block(name="block")(x)
        return linen.ConvTranspose(3, (8, 8), strides=(2, 2), name="up")(x).mean(axis=(1, 2))


def test_a_block_with_a_parameter_of_its_own_has_a_row():
    rows = {row.name: row for row in summary(Model.from_module(WithBlock(), (8, 8, 1))).rows}
    assert rows["block/conv"].parameters == 20
    assert rows["block"].parameters == 1
    # A transposed convolution multiplies at each pixel of its input.
    assert rows["up"].flops == 2 * 8 * 8 * 2 * 3 * 6 * 6
    assert sum(row.parameters for row in rows.values()) == 20 + 1 + 8 * 8 * 2 * 3 + 3


class General(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.DenseGeneral((3, 5), axis=-1, name="pixels")(x)
        return linen.DenseGeneral(2, axis=(1, 2, 3, 4), name="whole")(x)


def test_operations_of_general_dense_layers():
    rows = summary(Model.from_module(General(), (8, 8, 2))).rows
    assert [row.flops for row in rows] == [2 * 64 * 2 * 15, 2 * 64 * 15 * 2]


def test_nothing_is_computed_but_shapes():
    model = create_model("mnist_convnet")
    shapes = jax.eval_shape(lambda: model.variables)
    assert summary(model.replace(variables=shapes)) == summary(model)
