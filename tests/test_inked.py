"""What is worked out only where ink reaches is what comes out of whole pictures."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from hwr import export, inked, onnxfile
from hwr.alphabet import Alphabet
from hwr.errors import RunError
from hwr.networks import cnn
from hwr.networks.cnn import CNNNetwork
from hwr.networks.mlp import MLPNetwork
from hwr.predict import Recognizer

SIZES = [(30, 40), (12, 16), (14, 19), (31, 43), (47, 60)]


def network(size: tuple[int, int] = (30, 40)) -> CNNNetwork:
    torch.manual_seed(0)
    made = CNNNetwork(62, size, 0.25, 0.5, width=0.5).eval()
    for layer in made.blocks:
        if isinstance(layer, torch.nn.Conv2d):  # as of a trained one: white isn't zero
            torch.nn.init.normal_(layer.bias, std=0.5)  # type: ignore[arg-type]
    return made


def written(count: int, size: tuple[int, int] = (30, 40)) -> Tensor:
    """Boxes of any grey values anywhere on white paper."""
    torch.manual_seed(1)
    image = torch.ones(count, 1, *size)
    for one in image[:, 0]:
        sides = [torch.randint(0, length // 2, (2,)).tolist() for length in size]
        (y, high), (x, wide) = sides
        box = one[2 * y : 2 * y + high + 1, 2 * x : 2 * x + wide + 1]
        box.copy_(torch.rand_like(box))
    return image


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inked, "MANY", 1)
    monkeypatch.setattr(inked, "MOST", 2)


@torch.inference_mode()
@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("size", SIZES)
def test_a_dot_anywhere_changes_what_it_changes_in_whole_pictures(size: tuple[int, int]) -> None:
    image = torch.ones(size[0] * size[1], *size)
    image.flatten(1).fill_diagonal_(0.3)
    made = network(size)
    found = made._inked(image[:, None])
    assert found is not None
    torch.testing.assert_close(found, made.blocks[:6](image[:, None]))


@torch.inference_mode()
@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("few", [1, 3, 1000])
@pytest.mark.parametrize("size", SIZES)
def test_boxes_are_read_like_whole_pictures(
    size: tuple[int, int], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cnn, "FEW", few)
    image = torch.cat([written(60, size), torch.rand(3, 1, *size), torch.ones(3, 1, *size)])
    image = image[torch.randperm(len(image))]
    made = network(size)
    found = made._inked(image)
    assert found is not None
    torch.testing.assert_close(found, made.blocks[:6](image))


def test_boxes_go_together_by_size_and_in_bounds() -> None:
    random = np.random.default_rng(0)
    high, wide = random.integers(1, 11, (2, 500))
    high[7], wide[7] = 5, 900  # alone more than the bound
    high[8], wide[8] = 100, 30
    parts = list(inked._alike(high, wide, 800))
    assert sorted(np.concatenate([part for part, _, _ in parts])) == list(range(500))
    for part, h, w in parts:
        assert (h, w) == (high[part].max(), wide[part].max())
        assert len(part) == 1 or len(part) * h * w <= 800
    assert sum(len(part) * h * w for part, h, w in parts) <= inked.SPARE * (high * wide).sum()
    assert len(parts) < 100


def watched(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each time that a module asks for boxes, whether it got any."""
    asked: list[bool] = []

    def spy(*given: Any) -> inked.Array | None:
        found = inked.inked(*given)
        asked.append(found is not None)
        return found

    monkeypatch.setattr(module, "inked", spy)
    return asked


def calls(
    made: CNNNetwork, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tensor, list[bool]]:
    """What a network says, and what became of its boxes."""
    asked = watched(cnn, monkeypatch)
    return made(image), asked


@torch.inference_mode()
def test_many_pictures_are_read_by_boxes_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made, image = network(), written(300)
    found, asked = calls(made, image, monkeypatch)
    assert asked == [True]
    alone = torch.cat([made(one) for one in image.split(1)])
    assert asked == [True]
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("image", "boxes"),
    [
        (lambda: torch.rand(200, 1, 30, 40), False),
        (lambda: written(inked.MANY - 1), False),
        (lambda: written(inked.MANY), True),
        (lambda: torch.ones(200, 1, 30, 40), True),
    ],
    ids=["full of ink", "few", "enough", "blank"],
)
def test_boxes_are_taken_where_they_pay(
    image: Callable[[], Tensor], boxes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, given = network(), image()
    found, asked = calls(made, given, monkeypatch)
    assert asked == [boxes]
    torch.testing.assert_close(found[:9], made(given[:9]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "case",
    ["gradients", "training", "double", "autocast", "no oneDNN", "blocks", "blocks.1", "blocks.9"],
)
def test_elsewhere_layers_see_whole_pictures(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, image = network(), written(150)
    if case == "double":
        made, image = made.double(), image.double()
    if case.startswith("blocks"):
        made.get_submodule(case).register_forward_hook(lambda *_: None)
    with (
        torch.inference_mode(case != "gradients"),
        torch.autocast("cpu", enabled=case == "autocast"),
        torch.backends.mkldnn.flags(case != "no oneDNN", None, None),  # type: ignore[no-untyped-call]
    ):
        _, asked = calls(made.train(case == "training"), image, monkeypatch)
    assert asked == []


@torch.inference_mode()
def test_what_is_exported_reads_any_number_of_pictures() -> None:
    made, image = network(), written(150)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(made, (image,), dynamic_shapes=({0: batch},)).module()
    for count in (2, 17, 150):
        torch.testing.assert_close(program(image[:count]), made(image[:count]))


@torch.inference_mode()
@pytest.mark.parametrize("name", ["blocks.1.weight", "blocks.1.bias", "blocks.4.bias"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_stays_to_be_found(
    name: str, number: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = network()
    made.get_parameter(name)[3] = number
    found, asked = calls(made, written(150), monkeypatch)
    assert asked == [True]
    assert not found.isfinite().all(1).any()


@torch.inference_mode()
def test_a_value_that_is_no_number_is_ink(monkeypatch: pytest.MonkeyPatch) -> None:
    image = written(150)
    image[7] = 1
    image[7, 0, 3, 3] = float("nan")
    found, asked = calls(network(), image, monkeypatch)
    assert asked == [True]
    finite = found.isfinite().all(1)
    assert not finite[7]
    assert finite.sum() == 149


def exported(made: torch.nn.Module, size: tuple[int, int], folder: Path) -> Path:
    """An ONNX file of a network that wasn't trained."""

    @torch.inference_mode()
    def scores(image: inked.Array) -> inked.Array:
        return made(torch.from_numpy(image)).softmax(1).numpy()

    alphabet = Alphabet(tuple(map(str, range(62))))
    with pytest.MonkeyPatch.context() as patch:
        reader = Recognizer(alphabet, size, "notebook", made, None, {}, scores)
        patch.setattr(export, "load", lambda _: reader)
        export.export(folder, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(network(), (30, 40), tmp_path_factory.mktemp("exported"))


def by_boxes(
    file: Path, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> tuple[inked.Array, list[bool]]:
    """What a file says, and what became of its boxes."""
    asked = watched(onnxfile, monkeypatch)
    return onnxfile.load_onnx(file)[2](image.numpy()), asked


def alone(file: Path, image: Tensor) -> inked.Array:
    """What a file says of pictures when it is given few."""
    scores = onnxfile.load_onnx(file)[2]
    return np.concatenate([scores(part.numpy()) for part in image.split(inked.MANY - 1)])


@pytest.mark.parametrize("size", SIZES)
def test_an_onnx_file_reads_by_boxes_as_whole(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inked, "MOST", 2)
    file = exported(network(size), size, tmp_path)
    image = torch.cat([written(200, size), torch.rand(3, 1, *size), torch.ones(3, 1, *size)])
    found, asked = by_boxes(file, image, monkeypatch)
    assert asked == [True]
    np.testing.assert_allclose(found, alone(file, image), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "boxes"),
    [
        (lambda: torch.rand(200, 1, 30, 40), [False]),
        (lambda: written(inked.MANY - 1), []),
        (lambda: written(inked.MANY), [True]),
        (lambda: torch.ones(200, 1, 30, 40), [True]),
        (lambda: written(2000), [True, True, True]),
    ],
    ids=["full of ink", "few", "enough", "blank", "very many"],
)
def test_an_onnx_file_takes_boxes_where_they_pay(
    image: Callable[[], Tensor], boxes: list[bool], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = image()
    found, asked = by_boxes(file, given, monkeypatch)
    assert asked == boxes
    np.testing.assert_allclose(found, alone(file, given), rtol=1e-4, atol=1e-6)


def test_an_onnx_file_of_another_network_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = exported(MLPNetwork(62, (30, 40), 9).eval(), (30, 40), tmp_path)
    found, asked = by_boxes(file, written(150), monkeypatch)
    assert asked == []
    assert found.shape == (150, 62)


def attribute(node: int, name: str, value: Any) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        (one,) = (one for one in graph.node[node].attribute if one.name == name)
        one.CopyFrom(onnx.helper.make_attribute(name, value))

    return change


def another_reader(node: int) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        name = graph.node[node].output[0]
        graph.node.append(onnx.helper.make_node("Relu", [name], ["elsewhere"]))

    return change


def another_output(graph: Any) -> None:
    graph.output.append(onnx.helper.make_tensor_value_info(graph.node[1].output[0], 1, None))


CHANGES = {
    "pads of the first": attribute(0, "pads", [1, 2, 1, 1]),
    "pads of both": lambda graph: [attribute(k, "pads", [1, 1, 1, 1])(graph) for k in (0, 2)],
    "strides": attribute(2, "strides", [1, 2]),
    "dilations": attribute(2, "dilations", [2, 1]),
    "groups": attribute(2, "group", 16),
    "auto_pad": attribute(0, "auto_pad", "SAME_UPPER"),
    "overlapping pools": attribute(3, "strides", [2, 4]),
    "padded pools": attribute(3, "pads", [1, 0, 0, 0]),
    "ceil": attribute(3, "ceil_mode", 1),
    "no ReLU": lambda graph: setattr(graph.node[1], "op_type", "Abs"),
    "another order": lambda graph: graph.node[2].input.__setitem__(0, graph.node[0].output[0]),
    "maps seen again": another_reader(0),
    "pictures seen again": lambda graph: graph.node[5].input.__setitem__(0, "image"),
    "maps told": another_output,
    "weights elsewhere": lambda graph: graph.initializer.pop(
        [weight.name for weight in graph.initializer].index(graph.node[0].input[1])
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_onnx_file_that_begins_otherwise_is_not_halved(change: str, file: Path) -> None:
    model = onnx.load(file)
    assert onnxfile._halves(onnx, model) is not None
    other = copy.deepcopy(model)
    CHANGES[change](other.graph)
    assert other != model
    assert onnxfile._halves(onnx, other) is None


def test_what_nobody_asks_for_changes_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(file)
    dead = onnx.helper.make_node("Neg", [model.graph.output[0].name], ["dead"])
    model.graph.node.append(dead)
    onnx.save(model, tmp_path / "more.onnx")
    image = written(150)
    found, asked = by_boxes(tmp_path / "more.onnx", image, monkeypatch)
    assert asked == [True]
    np.testing.assert_allclose(found, alone(file, image), rtol=1e-4, atol=1e-6)


def test_a_broken_onnx_file_is_told_of_once(
    file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(file.read_bytes().replace(b"Softmax", b"\xeeoftmax"))
    with pytest.raises(RunError, match=r"broken\.onnx is no ONNX file of hwr-export$"):
        onnxfile.load_onnx(broken)
    assert capfd.readouterr() == ("", "")
