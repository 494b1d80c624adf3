"""Test the backbone that is pretrained on text-line recognition."""

from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import hwr
from hwr.config.compose import compose
from hwr.data import synthetic
from hwr.errors import ConfigError, RunError
from hwr.inference.export import export
from hwr.models import GlyphNet, pretrained
from hwr.models.lcnet import LCNet
from hwr.models.pretrained import load_pretrained_backbone
from hwr.training.train import train

TINY = [
    *("data=synthetic", "data.writers=4", "experiment=pretrained", "augment.synthetic_writers=2"),
    *("data.height=32", "data.width=43", "trainer.max_epochs=1", "callbacks=light"),
]


@torch.inference_mode()
def test_feature_maps_equal_those_of_the_file() -> None:
    package = find_spec("rapidocr")
    assert package is not None
    assert package.submodule_search_locations is not None
    model = onnx.load(Path(package.submodule_search_locations[0], pretrained.FILE))
    (pool,) = (node for node in model.graph.node if node.op_type == "AveragePool")
    maps = onnx.helper.make_tensor_value_info(pool.input[0], onnx.TensorProto.FLOAT, None)
    model.graph.output.append(maps)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    backbone = LCNet()
    load_pretrained_backbone(backbone)
    torch.manual_seed(0)
    for width in (48, 64):
        ink = torch.rand(3, 1, 48, width) * (torch.rand(3, 1, 48, width) < 0.2)
        line = (1 - 2 * ink).expand(-1, 3, -1, -1).numpy()
        _, expected = session.run(None, {"x": line})
        result = backbone(ink)
        assert result.shape == (3, 384, 3, width // 4)
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-3, atol=1e-4)
    assert sum(weight.numel() for weight in backbone.parameters()) == 2_675_136


def test_only_the_backbone_is_pretrained() -> None:
    first, second = (GlyphNet(backbone="lcnet") for _ in range(2))
    for model in (first, second):
        load_pretrained_backbone(torch.nn.Sequential(model))
    for weight, other in zip(
        first.backbone.parameters(), second.backbone.parameters(), strict=True
    ):
        assert torch.equal(weight, other)
    assert not torch.equal(first.head.weight, second.head.weight)


def test_other_models_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda _: None)
    model = GlyphNet(62, width_mult=0.25)
    before = [weight.clone() for weight in model.parameters()]
    load_pretrained_backbone(model)
    assert all(map(torch.equal, before, model.parameters()))


@pytest.mark.parametrize(
    ("package", "why"),
    [
        (None, r"model.backbone=lcnet needs rapidocr: pip install 'hwr\[pretrained\]'$"),
        ("empty", r"model.backbone=lcnet: .* cannot be read: .*No such file"),
        ("other", r"model.backbone=lcnet: .* has other weights than rapidocr 3.10$"),
    ],
)
def test_missing_weights(
    package: str | None, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = None
    if package is not None:
        spec = ModuleSpec("rapidocr", None, is_package=True)
        assert spec.submodule_search_locations is not None
        spec.submodule_search_locations.append(str(tmp_path))
    if package == "other":
        (tmp_path / "models").mkdir()
        (tmp_path / pretrained.FILE).write_bytes(b"something else")
    monkeypatch.setattr(pretrained, "find_spec", lambda _: spec)
    with pytest.raises(RunError, match=why):
        train(compose(TINY), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_lcnet_has_one_width() -> None:
    with pytest.raises(ConfigError, match=r"model.width_mult=2.0 is for model.backbone=residual"):
        compose(["experiment=pretrained", "model.width_mult=2"])


def test_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backbone trains slowly, and inference needs no package of weights."""
    folder = tmp_path / "run"
    train(compose([*TINY, "trainer.accelerator=cpu"]), folder)
    monkeypatch.setattr(pretrained, "find_spec", lambda _: None)
    saved = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    groups = saved["optimizer_states"][0]["param_groups"]
    assert [group["max_lr"] for group in groups] == pytest.approx([0.003, 0.003, 0.00003, 0.00003])
    slow = sum(len(group["params"]) for group in groups[2:])
    assert slow == len(list(LCNet().parameters()))
    start = LCNet()
    monkeypatch.undo()
    load_pretrained_backbone(start)
    for name, weight in start.state_dict().items():
        change = (saved["state_dict"][f"model.backbone.0.{name}"] - weight).abs().max()
        assert 0 < change < 1e-3, name  # a few steps of at most 0.00003
    recognizer = hwr.load(folder)
    assert "PP-OCRv6" in recognizer.about["began_with"]
    assert "PP-OCRv6" in (folder / "README.md").read_text(encoding="utf-8")
    images = synthetic.draw_images(5, 0)[:20]
    single = recognizer.probabilities(images)
    assert single.shape == (20, 62)
    assert export(folder, tmp_path / "model.onnx") < 1e-5
    exported = hwr.load(tmp_path / "model.onnx")
    np.testing.assert_allclose(exported.probabilities(images), single, atol=1e-5)


@pytest.mark.parametrize("side", [16, 32, 50])
@torch.inference_mode()
def test_windows_of_any_size(side: int) -> None:
    model = GlyphNet(62, 1, side, side + 9, backbone="lcnet").eval()
    assert model(torch.rand(3, 1, side, side + 9)).shape == (3, 62)
