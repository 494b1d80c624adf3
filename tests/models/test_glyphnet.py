"""Test GlyphNet: its window, its geometry, tta, writer context and parameter groups."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import hwr
from hwr.charset import Charset
from hwr.data import SyntheticDataset, synthetic
from hwr.errors import DataError
from hwr.inference import writer_context
from hwr.inference.export import export
from hwr.models import GlyphNet
from hwr.models.window import crop_around_ink
from hwr.preprocessing.ink import ink_box

SIZE = (48, 64)


@pytest.fixture(scope="module")
def dataset() -> SyntheticDataset:
    return SyntheticDataset(writers=2, height=SIZE[0], width=SIZE[1])


@pytest.fixture(scope="module")
def image(dataset: SyntheticDataset) -> torch.Tensor:
    return dataset.images / 255


def small(tta: int = 0, **settings: Any) -> GlyphNet:
    """Build a small network in eval mode, whose context changes the logits."""
    torch.manual_seed(0)
    model = GlyphNet(62, 1, *SIZE, width_mult=0.25, tta=tta, **settings)
    torch.nn.init.normal_(model.writer_context.correction.weight)
    return model.eval()


@torch.inference_mode()
def with_context(model: GlyphNet, image: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    return model.relate(*model.embed(model.augmented(image)), group).softmax(1)


def test_parameter_count() -> None:
    def count(model: GlyphNet) -> int:
        return sum(weights.numel() for weights in model.parameters())

    assert count(GlyphNet()) == 1_975_196
    assert count(GlyphNet(backbone="lcnet")) == 3_486_460


def test_the_window_follows_the_ink(image: torch.Tensor) -> None:
    ink = 1 - image
    window, geometry = crop_around_ink(ink, 48)
    assert window.shape == (len(image), 1, 48, 48)
    moved, there = crop_around_ink(ink.roll((3, -4), (2, 3)), 48)
    wrapped = (ink[..., :5] > 0).any((1, 2, 3)) | (ink[:, :, -5:] > 0).any((1, 2, 3))
    kept = ~wrapped
    assert kept.sum() > 100
    assert torch.equal(window[kept], moved[kept])
    torch.testing.assert_close(there[kept][:, [0, 1, 4]], geometry[kept][:, [0, 1, 4]])
    apart = (there - geometry)[kept][:, [2, 3]] / 4 * 48
    torch.testing.assert_close(apart, torch.tensor([-4.0, 3.0]).expand(len(apart), 2))


def test_geometry_is_that_of_the_ink_box(dataset: SyntheticDataset, image: torch.Tensor) -> None:
    arrays = dataset.images[:, 0].numpy()
    left, top, right, bottom = np.stack([ink_box(array) for array in arrays]).T
    geometry = crop_around_ink(1 - image, 48)[1].numpy()
    expected = [
        np.log(bottom - top + 0.03) + 1.2,
        np.log((right - left) * 4 / 3 + 0.03) + 1.5,
        4 * ((left + right) / 2 * 4 / 3 - 2 / 3),
        4 * ((top + bottom) / 2 - 0.5),
    ]
    np.testing.assert_allclose(geometry[:, :4].T, expected, atol=1e-4)


@pytest.mark.parametrize("factor", [1, 0.999, 1 / 3])
def test_rounding_errors_move_no_window(factor: float) -> None:
    """The center of symmetric ink lies between two pixels where the width is odd."""
    ink = torch.zeros(29, 1, 32, 43)
    for row in range(29):
        margin = 6 + row // 2
        ink[row, :, 1 : 2 + row, margin:-margin] = factor * (0.3 + 0.7 * row / 28)
    columns = (crop_around_ink(ink, 32)[0] > 0).any(2)[:, 0].long()
    first, last = columns.argmax(1), 31 - columns.flip(1).argmax(1)
    assert set((first + last).tolist()) == {30}


@pytest.mark.parametrize("shade", [0.0, 1.0])
def test_blank_and_black_images_give_finite_logits(shade: float) -> None:
    assert small()(torch.full((2, 1, *SIZE), shade)).isfinite().all()


def test_color_channels_are_averaged(image: torch.Tensor) -> None:
    model = small(tta=2)
    color = torch.cat([image[:4], image[:4] * 0.5, image[:4] * 0.75 + 0.25], 1)
    gray = color.mean(1, keepdim=True)
    torch.testing.assert_close(model(color), model(gray), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model(image[:4].expand(-1, 3, -1, -1)), model(image[:4]))


@pytest.mark.parametrize("tta", [0, 4])
def test_context_of_a_single_image_changes_nothing(image: torch.Tensor, tta: int) -> None:
    model = small(tta)
    refined = with_context(model, image[:20], torch.arange(20))
    torch.testing.assert_close(refined, model(image[:20]).detach().softmax(1))


@pytest.mark.parametrize("tta", [0, 4])
def test_order_and_other_writers_do_not_matter(image: torch.Tensor, tta: int) -> None:
    model, group = small(tta), torch.arange(4).repeat(10)
    refined = with_context(model, image[:40], group)
    assert (model(image[:40]).softmax(1) - refined).abs().max() > 0.001
    order = torch.randperm(40)
    mixed = with_context(model, image[:40][order], group[order] + 7)
    torch.testing.assert_close(mixed, refined[order], atol=1e-4, rtol=1e-4)
    one_writer = with_context(model, image[:40][group == 2], torch.zeros(10))
    torch.testing.assert_close(one_writer, refined[group == 2], atol=1e-4, rtol=1e-4)


def test_probabilities_of_tta_copies_are_averaged(image: torch.Tensor) -> None:
    model = small(tta=2)
    augmented = model.augmented(image[:5])
    assert torch.equal(augmented[:5], image[:5])
    assert augmented.shape == (15, 1, *SIZE)
    mean = torch.stack([small()(copy).softmax(1) for copy in augmented.split(5)]).mean(0)
    torch.testing.assert_close(model(image[:5]).softmax(1), mean, atol=1e-5, rtol=1e-4)


def test_temperature_counts_in_eval_mode_only(image: torch.Tensor) -> None:
    one, other = small(), small(temperature=0.5)
    torch.testing.assert_close((2 * one(image[:4])).softmax(1), other(image[:4]).softmax(1))
    torch.testing.assert_close(one.train()(image[:4]), other.train()(image[:4]))


def test_every_parameter_learns_and_a_batch_is_memorized(image: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = GlyphNet(16, width_mult=0.25)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    label, group = torch.arange(32) // 2, torch.arange(32) % 2
    for _ in range(40):
        optimizer.zero_grad()
        both = model.forward_with_context(image[:32], group)
        loss = sum((functional.cross_entropy(logits, label) for logits in both), torch.zeros(()))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for weight in model.parameters():
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0
    assert loss < 0.5


def test_parameter_groups() -> None:
    model = small()
    kernels, others = model.parameter_groups(0.01)
    assert {p.ndim > 1 for p in kernels["params"]} == {True}
    assert {p.ndim > 1 for p in others["params"]} == {False}
    assert "weight_decay" not in kernels
    assert others["weight_decay"] == 0
    count = len(list(model.parameters()))
    assert len(kernels["params"]) + len(others["params"]) == count
    groups = small(backbone_lr_mult=0.1).parameter_groups(0.01)
    optimizer = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.05)
    settings = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert settings == [(0.01, 0.05), (0.01, 0), (0.001, 0.05), (0.001, 0)]
    assert sum(len(group["params"]) for group in groups) == count
    slow = sum(len(group["params"]) for group in groups[2:])
    assert slow == len(list(model.backbone.parameters()))


def test_invalid_arguments() -> None:
    with pytest.raises(ValueError, match="backbone='resnet' must be residual or lcnet"):
        GlyphNet(backbone="resnet")
    with pytest.raises(ValueError, match="at least 16 rows, not 15"):
        GlyphNet(height=15)


def test_pages_of_one_case() -> None:
    charset = Charset.of("0AaBb")
    label, writer = np.tile(np.arange(5), 4), np.repeat([4, 5, 6, 7], 5)
    pages = set()
    for seed in range(30):
        random = np.random.default_rng(seed)
        rows = writer_context._one_case(label, writer, charset.case_insensitive_classes(), random)
        assert len(rows) == 12  # 0, a or A, b or B of each of four
        for person in range(4):
            names = {charset.names[label[row]].lower() for row in rows if row // 5 == person}
            assert names == {"0", "a", "b"}
        pages.add(frozenset(rows.tolist()))
    assert len(pages) > 10


def test_metrics_with_writer_context(glyphnet_run: Path) -> None:
    metrics = json.loads((glyphnet_run / "metrics.json").read_text())
    curve = [metrics[f"test/acc_writer_{size}"] for size in (1, 2, 5, 10, 20)]
    assert curve[0] == pytest.approx(metrics["test/acc"])
    assert all(0 <= value <= 1 for value in [*curve, metrics["test/acc_writer"]])
    assert {"test/acc_onecase", "test/acc_writer_onecase"} <= metrics.keys()


def test_gradients_are_clipped_at_mixed_precision(glyphnet_run: Path) -> None:
    state = torch.load(glyphnet_run / "checkpoints/last.ckpt", weights_only=True)
    moments = state["optimizer_states"][0]["state"].values()
    assert max(float(moment["exp_avg"].norm()) for moment in moments) < 1e-9


def test_recognizer_predicts_with_writer_context(glyphnet_run: Path) -> None:
    recognizer = hwr.load(glyphnet_run)
    torch.manual_seed(0)
    torch.nn.init.normal_(recognizer.model.writer_context.correction.weight)
    images = [synthetic.draw_images(9, 0)[k] for k in (12, 38, 10, 11)]
    single = recognizer.probabilities(images)
    np.testing.assert_allclose(
        recognizer.probabilities(images, writer=[1, 2, 3, 4]), single, atol=1e-5
    )
    mixed = recognizer.probabilities(images * 2, writer=["a"] * 4 + ["b"] * 4)
    one_writer = recognizer.probabilities(images, writer="a")
    np.testing.assert_allclose(mixed, np.concatenate([one_writer, one_writer]), atol=1e-5)
    assert np.abs(one_writer - single).max() > 1e-3
    predictions = recognizer.predict(images, 2, writer="a")
    assert [p.probability for p in predictions] == pytest.approx(one_writer.max(1).tolist())
    with pytest.raises(DataError, match="names 2 writers of 4 images"):
        recognizer.predict(images, writer=[1, 2])
    assert recognizer.predict([], writer="a") == []


def test_an_onnx_file_has_tta_but_no_writer_context(glyphnet_run: Path, tmp_path: Path) -> None:
    assert export(glyphnet_run, tmp_path / "model.onnx") < 1e-5
    images = [synthetic.draw_images(9, 0)[k] for k in (12, 38, 10)]
    exported, recognizer = hwr.load(tmp_path / "model.onnx"), hwr.load(glyphnet_run)
    assert recognizer.model.tta == 4
    expected = recognizer.probabilities(images)
    np.testing.assert_allclose(exported.probabilities(images), expected, atol=1e-5)
    with pytest.raises(DataError, match="has no writer context"):
        exported.predict(images, writer=1)
