"""PyTorch's zip files are read without unpickling; whatever is no tensor is refused by name."""

import contextlib
import os
import pickle

import ml_dtypes
import numpy as np
import pytest
from torch_family import output, registered, state_dict
from torch_files import dictionary, name, number, save, tensor, text, write

import cnnjax as cj
from cnnjax.weights import DamagedWeights, read_weights

NUMBERS = np.arange(24, dtype=np.float32)


def arrays(path):
    return {
        f"{layer.name}.{weight}": array
        for layer in read_weights(path).layers
        for weight, array in layer.arrays.items()
    }


@pytest.mark.parametrize("file", ["net.pth", "net.pt", "pytorch_model.bin", "net.h5"])
def test_a_state_dict_makes_a_model(file, tmp_path):
    path = save(tmp_path / file, state_dict())
    x = np.random.default_rng(1).random((2, 6, 5, 3), np.float32)
    with registered():
        model = cj.create_model("small_torch", weights=path)
        np.testing.assert_allclose(model(x), output(state_dict(), x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "expected"),
    [
        (0, (4, 6), (6, 1), NUMBERS.reshape(4, 6)),
        (0, (6, 4), (1, 6), NUMBERS.reshape(4, 6).T),
        (6, (2, 3), (6, 2), NUMBERS.reshape(4, 6)[1:3, ::2]),
        (3, (4, 3), (0, 1), np.broadcast_to(NUMBERS[3:6], (4, 3))),
        (5, (), (), NUMBERS[5]),
        (0, (0, 3), (3, 1), NUMBERS[:0].reshape(0, 3)),
    ],
)
def test_views_of_a_shared_storage(offset, shape, strides, expected, tmp_path):
    values = {
        "a.weight": tensor("0", "Float", 24, offset, shape, strides),
        "b.weight": tensor("0", "Float", 24, 0, (24,), (1,)),
    }
    found = arrays(write(tmp_path / "n.pth", values, {"0": NUMBERS}))
    np.testing.assert_array_equal(found["a.weight"], expected)
    np.testing.assert_array_equal(found["b.weight"], NUMBERS)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "bfloat16"])
def test_types_of_numbers_and_orders_of_bytes(dtype, order, tmp_path):
    array = NUMBERS.astype(ml_dtypes.bfloat16).view("u2") if dtype == "bfloat16" else NUMBERS
    kind = {"f2": "Half", "f4": "Float", "f8": "Double", "bfloat16": "BFloat16"}[dtype]
    array = array.astype("u2" if dtype == "bfloat16" else dtype)
    stored = array.byteswap() if order == "big" else array
    values = {"a.weight": tensor("7", kind, 24, 0, (24,), (1,))}
    found = arrays(write(tmp_path / "n.pth", values, {"7": stored}, order=order))
    assert found["a.weight"].dtype == np.float32
    np.testing.assert_array_equal(found["a.weight"], NUMBERS)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_ema"])
def test_checkpoints_hold_the_state_dict_under_a_key(key, tmp_path):
    def wrap(values):
        inner = {f"module.{name}": value for name, value in values.items()}
        others = {
            "epoch": number(3),
            "best": b"G?\xf0\0\0\0\0\0\0",
            "note": text("x"),
            "none": b"N",
        }
        plain = {"model": dictionary({})} if key == "model_ema" else {}
        return {**others, **plain, key: dictionary(inner)}

    stored = read_weights(save(tmp_path / "n.pth", {"a.weight": NUMBERS}, wrap))
    assert stored.unwrapped == (key, "module.")
    assert [layer.name for layer in stored.layers] == ["a"]


class Payload:
    """What runs a command as soon as it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_code_in_a_file_is_refused_by_name_and_not_run(protocol, tmp_path):
    content = pickle.dumps({"a.weight": Payload(tmp_path / "ran")}, protocol)
    path = write(tmp_path / "n.pth", content[2:-1], {})
    with pytest.raises(DamagedWeights, match=r"n.pth needs 'posix.system' to be read, which is"):
        read_weights(path)
    pickle.loads(content)  # it would have
    assert (tmp_path / "ran").exists()


WHOLE = tensor("0", "Float", 24, 0, (24,), (1,))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (name("torchvision.models.resnet", "ResNet"), "needs 'torchvision.models.resnet.ResNet'"),
        (dictionary({"args": name("argparse", "Namespace")}), "needs 'argparse.Namespace' to be"),
        (dictionary({"a": b"i__builtin__\neval\n"}), "has the step INST in its pickle"),
        (name("torch", "Size") + b")\x81", "has the step NEWOBJ in its pickle"),
        (number(3), "holds no state dict, but a single value"),
        (dictionary({}), "holds no state dict, which has tensors alone: there is nothing"),
        (dictionary({"a": WHOLE, "b": number(1)}), "tensors alone: there is 'b'"),
        (text("a") + name("torch", "FloatStorage") + b")R", "calls in its pickle what is no"),
        (tensor("0", "Float", 24, 1, (24,), (1,)), r"tensor of \(24,\) beyond its storage of 24"),
        (tensor("0", "Float", 24, 0, (24,), (-1,)), "a size that is no whole number >= 0"),
        (tensor("0", "Float", 24, 0, (1,) * 9, (1,) * 9), "a tensor of more than 8 axes"),
        (dictionary({"a.weight": tensor("1", "Float", 24, 0, (24,), (1,))}), "storage '1' has 0"),
        (dictionary({"a.weight": tensor("0", "Float", 25, 0, (24,), (1,))}), "expected 100"),
        (dictionary({"a.weight": tensor("0", "Float", 24, 0, (10**9, 24), (0, 1))}), "would unp"),
        (text("os") + b"))\x86\x93", "a constructor whose name is no text"),
        (b"(" * 9, "holds no state dict, but a single value"),
        (b"R", "has a damaged pickle"),
        (b"h\x07", "has a damaged pickle"),
        (b"(K\x01)K\x01u", "has a damaged pickle"),
    ],
)
def test_what_is_no_state_dict_is_an_error_of_one_sentence(content, sentence, tmp_path):
    path = write(tmp_path / "n.pth", content, {"0": NUMBERS})
    with pytest.raises(DamagedWeights, match=sentence) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_an_error_or_reads_as_it_was(tmp_path):
    whole = save(tmp_path / "n.pth", {"a.weight": NUMBERS, "b.bias": NUMBERS[:5]}).read_bytes()
    generator = np.random.default_rng(0)
    path = tmp_path / "damaged.pth"
    for turn in range(120):
        content = bytearray(whole)
        place = int(generator.integers(len(content)))
        if turn % 2:
            content[place] ^= 1 << int(generator.integers(8))
        else:
            del content[place:]
        path.write_bytes(content)
        with contextlib.suppress(DamagedWeights):
            np.testing.assert_array_equal(arrays(path)["a.weight"], NUMBERS)


def test_files_that_pytorch_wrote(tmp_path):
    torch = pytest.importorskip("torch", reason="torch comes with the extra 'bench'")
    values = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "a.weight": values.t(),
        "b.weight": values[1:3, ::2],
        "c.weight": torch.ones(1, 3).expand(4, 3),
        "d.weight": values.half(),
        "e.weight": values.bfloat16(),
        "f.weight": values.double(),
        "g.bias": torch.nn.Parameter(values[2]),
    }
    for protocol in (2, 4):
        torch.save({"model": tensors, "epoch": 3}, tmp_path / "n.pth", pickle_protocol=protocol)
        found = arrays(tmp_path / "n.pth")
        for key, value in tensors.items():
            np.testing.assert_array_equal(found[key], value.detach().float().numpy())
