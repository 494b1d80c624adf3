"""The network of our own: its window, its geometry, and reading with the writer in view."""

from pathlib import Path

import numpy as np
import pytest
import torch

import hwr
from hwr import data, export, synthetic
from hwr.alphabet import Alphabet
from hwr.config import compose
from hwr.errors import ConfigError, DataError, RunError
from hwr.models.glyphnet import GlyphNet
from hwr.networks.glyphnet import GlyphNetwork, around_the_ink
from hwr.paper import ink_box
from hwr.recorder import Recorder
from hwr.together import _one_case, _parted, figures, look
from hwr.train import train

SIZE = (48, 64)
TINY = ["data=synthetic", "data.writers=4", "experiment=best", "augment.drawn=2", "report=none"]


@pytest.fixture(scope="module")
def characters() -> data.Characters:
    settings = ["data=synthetic", "data.writers=2", "data.height=48", "data.width=64"]
    return data.load(compose(settings).data)


@pytest.fixture(scope="module")
def image(characters: data.Characters) -> torch.Tensor:
    return torch.from_numpy(characters.image)[:, None] / 255


def network(views: int = 0) -> GlyphNetwork:
    torch.manual_seed(0)
    made = GlyphNetwork(62, SIZE, width=0.25, views=views)
    torch.nn.init.normal_(made.relation.correction.weight)
    return made.eval()


def test_the_window_follows_the_ink(image: torch.Tensor) -> None:
    ink = 1 - image
    window, geometry = around_the_ink(ink, 48)
    assert window.shape == (len(image), 1, 48, 48)
    moved, there = around_the_ink(ink.roll((3, -4), (2, 3)), 48)
    inside = [bool((one[..., :5] > 0).any() or (one[:, -5:] > 0).any()) for one in ink]
    kept = ~torch.tensor(inside)
    assert kept.sum() > 100
    assert torch.equal(window[kept], moved[kept])
    torch.testing.assert_close(there[kept][:, [0, 1, 4]], geometry[kept][:, [0, 1, 4]])
    apart = (there - geometry)[kept][:, [2, 3]] / 4 * 48
    torch.testing.assert_close(apart, torch.tensor([-4.0, 3.0]).expand(len(apart), 2))


def test_geometry_is_that_of_the_ink_box(image: torch.Tensor, characters: data.Characters) -> None:
    left, top, right, bottom = ink_box(characters.image).T
    geometry = around_the_ink(1 - image, 48)[1].numpy()
    expected = [
        np.log(bottom - top + 0.03) + 1.2,
        np.log((right - left) * 4 / 3 + 0.03) + 1.5,
        4 * ((left + right) / 2 * 4 / 3 - 2 / 3),
        4 * ((top + bottom) / 2 - 0.5),
    ]
    np.testing.assert_allclose(geometry[:, :4].T, expected, atol=1e-4)


@pytest.mark.parametrize("shade", [0.0, 1.0])
def test_an_empty_or_black_sheet_is_read_like_any_other(shade: float) -> None:
    logits = network()(torch.full((2, 1, *SIZE), shade))
    assert logits.isfinite().all()


@torch.inference_mode()
def together(made: GlyphNetwork, image: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    return made.relate(*look(made, image), group).softmax(1)


@pytest.mark.parametrize("views", [0, 4])
def test_a_picture_alone_is_read_the_same_with_and_without_context(
    image: torch.Tensor, views: int
) -> None:
    made = network(views)
    seen = together(made, image[:20], torch.arange(20))
    torch.testing.assert_close(seen, made(image[:20]).detach().softmax(1))


@pytest.mark.parametrize("views", [0, 4])
def test_order_and_other_hands_do_not_matter(image: torch.Tensor, views: int) -> None:
    made, group = network(views), torch.arange(4).repeat(10)
    seen = together(made, image[:40], group)
    assert (made(image[:40]).softmax(1) - seen).abs().max() > 0.001
    order = torch.randperm(40)
    mixed = together(made, image[:40][order], group[order] + 7)
    torch.testing.assert_close(mixed, seen[order], atol=1e-4, rtol=1e-4)
    apart = together(made, image[:40][group == 2], torch.zeros(10))
    torch.testing.assert_close(apart, seen[group == 2], atol=1e-4, rtol=1e-4)


def test_views_are_averaged(image: torch.Tensor) -> None:
    made = network(views=2)
    viewed = made.viewed(image[:5])
    assert torch.equal(viewed[:5], image[:5])
    assert viewed.shape == (15, 1, *SIZE)
    once = network()
    mean = torch.stack([once(part).softmax(1) for part in (viewed[:5], viewed[5:10], viewed[10:])])
    torch.testing.assert_close(made(image[:5]).softmax(1), mean.mean(0), atol=1e-5, rtol=1e-4)


def test_temperature_calms_or_sharpens_what_is_read_only(image: torch.Tensor) -> None:
    one, other = network(), network()
    other.temperature = 0.5
    torch.testing.assert_close((2 * one(image[:4])).softmax(1), other(image[:4]).softmax(1))
    torch.manual_seed(0)
    torch.testing.assert_close(one.train()(image[:4]), other.train()(image[:4]))


def test_parameters() -> None:
    count = sum(weight.numel() for weight in GlyphNetwork(62, SIZE).parameters())
    assert count == 1_975_196


def test_every_parameter_learns_and_a_batch_can_be_memorised(image: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = GlyphNet([f"{k}" for k in range(62)], width=0.5, label_smoothing=0.0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    label, group = torch.arange(62), torch.arange(62) % 3
    batch = image[::2], label, group
    for _ in range(40):
        optimizer.zero_grad()
        loss = model.training_step(batch, 0)
        loss.backward()
        optimizer.step()
    for weight in model.parameters():
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0
    assert loss < 0.5


def test_resume_is_as_if_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [*TINY, "trainer.max_epochs=3"]
    train(compose(settings), tmp_path / "whole")
    ended = Recorder.on_train_epoch_end

    def stop(self: Recorder, *arguments: object) -> None:
        ended(self, *arguments)  # type: ignore[arg-type]
        if len(self.history) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "on_train_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train(compose(settings), tmp_path / "pieced")
    file = tmp_path / "pieced" / "checkpoints" / "last.ckpt"
    saved = torch.load(file, weights_only=True)
    for name in ("body", "body_lr"):  # as before there were these
        del saved["hyper_parameters"][name]
    torch.save(saved, file)
    ckpt = f"ckpt={file}"
    with pytest.raises(RunError, match=r"trainer\.max_epochs=3, but this run has .*=4"):
        train(compose([*TINY, "trainer.max_epochs=4", ckpt]), tmp_path / "longer")
    train(compose([*settings, ckpt]), tmp_path / "pieced")
    one, other = (
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "pieced")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_gradients_are_clipped_at_mixed_precision(tmp_path: Path) -> None:
    config = compose([*TINY, "trainer.max_epochs=1", "+trainer.gradient_clip_val=1e-9"])
    assert config.trainer.precision == "bf16-mixed"
    train(config, tmp_path)
    state = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    moments = state["optimizer_states"][0]["state"].values()
    assert max(float(moment["exp_avg"].norm()) for moment in moments) < 1e-9


def test_what_is_refused() -> None:
    for wrong, words in (
        ("model.width=0.1", r"model\.width=0\.1 must lie between"),
        ("model.temperature=0", r"model\.temperature=0\.0 must lie"),
        ("model.label_smoothing=1", r"model\.label_smoothing=1\.0 must lie"),
        ("data.height=8", r"data\.height=8 is too small for model=glyphnet"),
    ):
        with pytest.raises(ConfigError, match=words):
            compose(["model=glyphnet", wrong])


def test_a_run_tells_how_it_reads_with_the_writer_in_view(tmp_path: Path) -> None:
    figures = train(
        compose([*TINY, "trainer.max_epochs=1", "split=writer", "split.folds=2"]), tmp_path
    )
    curve = [figures[f"test/acc_writer_{size}"] for size in (1, 2, 5, 10, 20)]
    assert curve[0] == pytest.approx(figures["test/acc"])
    assert all(0 <= figure <= 1 for figure in [*curve, figures["test/acc_writer"]])
    assert {"test/acc_onecase", "test/acc_writer_onecase"} <= figures.keys()


def test_sheets_of_one_case() -> None:
    alphabet = Alphabet.of("0AaBb")
    label, writer = np.tile(np.arange(5), 4), np.repeat([4, 5, 6, 7], 5)
    drawn = [
        frozenset(_one_case(label, writer, alphabet.fold(), np.random.default_rng(k)).tolist())
        for k in range(30)
    ]
    for rows in drawn:
        assert len(rows) == 12  # 0, a or A, b or B of each of four
        for person in range(4):
            names = {alphabet.names[label[row]].lower() for row in rows if row // 5 == person}
            assert names == {"0", "a", "b"}
    assert len(set(drawn)) > 10


def test_of_a_few_pictures_no_sheet_of_one_case_may_be_left(image: torch.Tensor) -> None:
    alphabet, one = Alphabet.of("Aa"), np.zeros(1, np.int64)
    made = GlyphNetwork(2, SIZE, width=0.25).eval()
    found = figures(made, look(made, image[:1]), one, one, alphabet)  # A, half of the sheets want a
    assert found["acc_onecase"] == found["acc_writer"]
    random = np.random.default_rng(0)
    left = {len(_one_case(one, one, alphabet.fold(), random)) for _ in range(10)}
    assert left == {0, 1}
    bare = figures(made, look(made, image[:1]), one, one, Alphabet.of("AB"))
    assert "acc_onecase" not in bare


def test_parted_by_hand_and_size() -> None:
    writer = np.repeat([1, 2], [7, 3])
    group = _parted(writer, 5, np.random.default_rng(0))
    assert sorted(np.unique(group, return_counts=True)[1]) == [2, 3, 5]
    assert not set(group[:7]) & set(group[7:])


def test_reading_pictures_of_one_writer_together(tmp_path: Path) -> None:
    train(compose([*TINY, "trainer.max_epochs=1"]), tmp_path)
    recognizer = hwr.load(tmp_path)
    pictures = [synthetic.pictures(9, 0)[k] for k in (12, 38, 10, 11)]
    alone = recognizer.probabilities(pictures)
    np.testing.assert_allclose(
        recognizer.probabilities(pictures, writer=[1, 2, 3, 4]), alone, atol=1e-5
    )
    mixed = recognizer.probabilities(pictures * 2, writer=["a"] * 4 + ["b"] * 4)
    together = recognizer.probabilities(pictures, writer="a")
    np.testing.assert_allclose(mixed, np.concatenate([together, together]), atol=1e-5)
    assert np.abs(together - alone).max() > 1e-6
    read = recognizer.predict(pictures, 2, writer="a")
    assert [found.probability for found in read] == pytest.approx(together.max(1).tolist())
    with pytest.raises(DataError, match="names 2 writers of 4 pictures"):
        recognizer.predict(pictures, writer=[1, 2])
    assert recognizer.predict([], writer="a") == []


def test_an_export_reads_the_same_views_singly(tmp_path: Path) -> None:
    train(compose([*TINY, "model.views=2", "trainer.max_epochs=1"]), tmp_path)
    assert export.export(tmp_path, tmp_path / "model.onnx") < 1e-5
    pictures = [synthetic.pictures(9, 0)[k] for k in (12, 38, 10)]
    exported = hwr.load(tmp_path / "model.onnx")
    expected = hwr.load(tmp_path).probabilities(pictures)
    np.testing.assert_allclose(exported.probabilities(pictures), expected, atol=1e-5)
    with pytest.raises(DataError, match="InferenceSession reads pictures one by one"):
        exported.predict(pictures, writer=1)


def test_networks_that_read_singly_say_so(tmp_path: Path) -> None:
    train(compose([*TINY[:2], "model=mlp", "split.val_size=0", "trainer.max_epochs=1"]), tmp_path)
    with pytest.raises(DataError, match="MLPNetwork reads pictures one by one"):
        hwr.load(tmp_path).predict([synthetic.pictures(1, 0)[0]], writer=1)
