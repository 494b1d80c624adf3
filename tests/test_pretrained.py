"""Convolutions that begin with what lines of text have taught."""

from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import hwr
from hwr import export, pretrained, synthetic
from hwr.alphabet import Alphabet
from hwr.config import compose
from hwr.errors import ConfigError, RunError
from hwr.networks.glyphnet import GlyphNetwork
from hwr.networks.lcnet import LCNet
from hwr.recorder import Recorder
from hwr.train import build, train

TINY = ["data=synthetic", "data.writers=4", "experiment=pretrained", "augment.drawn=2"]


def ink(count: int, width: int = 48) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(count, 1, 48, width) * (torch.rand(count, 1, 48, width) < 0.2)


@torch.inference_mode()
def test_the_maps_are_those_of_the_file() -> None:
    package = find_spec("rapidocr")
    assert package is not None
    assert package.submodule_search_locations is not None
    model = onnx.load(Path(package.submodule_search_locations[0], pretrained.FILE))
    (pool,) = (node for node in model.graph.node if node.op_type == "AveragePool")
    told = onnx.helper.make_tensor_value_info(pool.input[0], onnx.TensorProto.FLOAT, None)
    model.graph.output.append(told)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    body = LCNet()
    pretrained.begin(body)
    for width in (48, 64):
        given = ink(3, width)
        line = (1 - 2 * given).expand(-1, 3, -1, -1).numpy()
        _, expected = session.run(None, {"x": line})
        found = body(given)
        assert found.shape == (3, 384, 3, width // 4)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-4)
    assert sum(weight.numel() for weight in body.parameters()) == 2_675_136


def test_a_network_begins_with_them() -> None:
    config, alphabet = compose(TINY), Alphabet(tuple(synthetic.CHARACTERS))
    first, second = (build(config.model, alphabet, config.data).network for _ in range(2))
    for made in (first, second):
        assert isinstance(made, GlyphNetwork)
        pretrained.begin(made)
        assert sum(weight.numel() for weight in made.parameters()) == 3_486_460
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    body = len(list(LCNet().parameters()))
    assert all(same[:body])
    assert not torch.equal(first.head.weight, second.head.weight)  # type: ignore[arg-type]


def test_other_networks_begin_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda _: None)
    made = GlyphNetwork(62, (48, 64))
    before = [weight.clone() for weight in made.parameters()]
    pretrained.begin(made)
    assert all(map(torch.equal, before, made.parameters()))
    with pytest.raises(ValueError, match="no convolutions 'resnet'"):
        GlyphNetwork(62, (48, 64), body="resnet")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (None, r"model.body=lcnet needs rapidocr: pip install 'hwr\[pretrained\]'$"),
        ("empty", r"model.body=lcnet: .* cannot be read: .*No such file"),
        ("other", r"model.body=lcnet: .* has other weights than those of rapidocr 3.10$"),
    ],
)
def test_missing_weights_are_told_of(
    spec: str | None, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = None
    if spec is not None:
        found = ModuleSpec("rapidocr", None, is_package=True)
        assert found.submodule_search_locations is not None
        found.submodule_search_locations.append(str(tmp_path))
    if spec == "other":
        (tmp_path / "models").mkdir()
        (tmp_path / pretrained.FILE).write_bytes(b"something else")
    monkeypatch.setattr(pretrained, "find_spec", lambda _: found)
    with pytest.raises(RunError, match=why):
        train(compose(TINY), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_settings_that_mean_nothing_are_refused() -> None:
    for setting, why in (
        ("model.body=resnet", "model.body=resnet must be own or lcnet"),
        ("model.width=2", r"model.width=2.0 is for model.body=own; lcnet has one width"),
        ("model.body_lr=-1", r"model.body_lr=-1.0 must lie between 0 and 10"),
    ):
        with pytest.raises(ConfigError, match=why):
            compose(["experiment=pretrained", setting])


def test_what_has_learnt_before_trains_slowly_and_reads_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = [*TINY, "report=none", "trainer.max_epochs=2", "trainer.accelerator=cpu"]
    train(compose(short), tmp_path / "whole")
    ended = Recorder.on_train_epoch_end

    def stop(self: Recorder, *arguments: object) -> None:
        ended(self, *arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "on_train_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train(compose(short), tmp_path / "run")
    monkeypatch.setattr(pretrained, "find_spec", lambda _: None)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    train(compose([*short, f"ckpt={last}"]), tmp_path / "run")
    saved, other = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("whole", "run")
    )
    for name, weight in saved["state_dict"].items():
        assert torch.equal(weight, other["state_dict"][name])
    groups = saved["optimizer_states"][0]["param_groups"]
    rates = [group["initial_lr"] for group in groups]
    assert rates == pytest.approx([0.003, 0.003, 0.00003, 0.00003])
    slow = sum(len(group["params"]) for group in groups[2:])
    assert slow == len(list(LCNet().parameters()))
    recognizer = hwr.load(tmp_path / "run")
    assert "PP-OCRv6" in recognizer.about["began_with"]
    assert "PP-OCRv6" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    drawn = synthetic.pictures(5, 0)[:20]
    alone = recognizer.probabilities(drawn)
    assert not np.allclose(alone, recognizer.probabilities(drawn, writer="one"))
    assert export.export(tmp_path / "run", tmp_path / "model.onnx") < 1e-5
    exported = hwr.load(tmp_path / "model.onnx")
    np.testing.assert_allclose(exported.probabilities(drawn), alone, atol=1e-5)


@pytest.mark.parametrize("side", [16, 32, 50])
@torch.inference_mode()
def test_windows_of_any_size_are_read(side: int) -> None:
    made = GlyphNetwork(62, (side, side + 9), body="lcnet").eval()
    assert made(torch.rand(3, 1, side, side + 9)).shape == (3, 62)
