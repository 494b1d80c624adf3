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
from hwr.errors import RunError
from hwr.models import pretrained
from hwr.models.lcnet import LCNet
from hwr.models.pretrained import load_pretrained_backbone
from hwr.training.train import train

TINY = [
    *("data=synthetic", "data.writers=4", "experiment=pretrained", "augment.synthetic_writers=2"),
    *("data.height=32", "data.width=43", "trainer.max_epochs=1", "callbacks=light"),
    "model.tta=0",
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


@pytest.mark.parametrize(
    ("package", "why"),
    [
        (False, r"model.backbone=lcnet needs rapidocr and onnx: pip install 'hwr\[pretrained\]'$"),
        (True, r"model.backbone=lcnet needs the weights of rapidocr 3.10"),
    ],
)
def test_missing_weights(
    package: bool, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / pretrained.FILE).write_bytes(b"something else")
    spec = ModuleSpec("rapidocr", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(pretrained, "find_spec", lambda _: spec if package else None)
    with pytest.raises(RunError, match=why):
        train(compose(TINY), tmp_path / "run")
    assert not (tmp_path / "run").exists()


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
    assert recognizer.probabilities(synthetic.draw_images(5, 0)[:20]).shape == (20, 62)
