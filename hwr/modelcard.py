"""The model card of a run: what it is, how good it is, and how to use it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hwr.errors import printable
from hwr.files import whole


def write(
    folder: Path,
    metrics: dict[str, Any],
    interval: tuple[float, float],
    predictions: Sequence[tuple[str, str, str, float]],
) -> None:
    """Write `README.md` into a run folder.

    Args:
        folder: The run folder.
        metrics: What stands in `metrics.json`.
        interval: 95 % interval of the test accuracy, 0 to 1.
        predictions: File, label, prediction and its probability of every test picture.
    """
    low, high = (100 * end for end in interval)
    figures = {
        "accuracy": f"{100 * metrics['test/acc']:.1f} % ({low:.1f} - {high:.1f})",
        **{
            words: f"{100 * metrics[name]:.1f} %"
            for words, name in (
                ("case folded", "test/acc_nocase"),
                ("look-alikes folded", "test/acc_lookalike"),
                ("among the first three", "test/top3"),
            )
            if name in metrics
        },
        "loss": f"{metrics['test/loss']:.3f} nats",
    }
    chosen = "the last epoch is reported"
    if metrics["reported_epoch"] != metrics["epochs"]:
        chosen = f"epoch {metrics['reported_epoch']} was chosen by validation"
    if metrics["val_is_test"]:
        chosen += "; validated on the test pictures, by which nothing was chosen"
    mistakes = Counter((label, guess) for _, label, guess, _ in predictions if label != guess)
    pairs = [f"| {cell(a)} | {cell(b)} | {count} |" for (a, b), count in mistakes.most_common(10)]
    began = [metrics["began_with"]] if "began_with" in metrics else []
    lines = [
        f"# {cell(metrics['model'])} on {cell(metrics['data'])}",
        "",
        f"Reads single handwritten characters of {metrics['classes']:,} classes; "
        f"{metrics['parameters']:,} parameters, {metrics['epochs']} epochs, "
        f"{metrics['fit_seconds']:.0f} s of fit. Made by hwr {metrics['hwr_version']}, "
        f"seed {metrics['seed']}.",
        "",
        f"- Data {cell(metrics['data'])}, split {cell(metrics['split'])}: "
        f"{metrics['train_pictures']:,} pictures for training, "
        f"{metrics['val_pictures']:,} for validation, "
        f"{metrics['test_pictures']:,} for test; {chosen}.",
        f"- Fingerprint of the data: `{metrics['data_fingerprint']}`.",
        *(f"- Began with the weights of {whose}." for whose in began),
        "",
        "| on the test pictures | |",
        "|---|---|",
        *(f"| {words} | {figure} |" for words, figure in figures.items()),
        "",
        "The interval is a 95 % bootstrap over the writers, or over the pictures where these are "
        "unknown.",
        "",
        *(["| is | read as | times |", "|---|---|---|", *pairs, ""] if pairs else []),
        "```python",
        "import hwr",
        "",
        'recognizer = hwr.load("RUN")  # this folder',
        'print(recognizer.read("picture.png"))',
        "```",
        "",
    ]
    with whole(folder / "README.md") as beside:
        beside.write_text("\n".join(lines), encoding="utf-8")


def cell(name: str, length: int = 24) -> str:
    """A class name as code in a table, whatever it is made of, cut off at a length."""
    short = printable(name) if len(name) <= length else f"{printable(name)[: length - 1]}…"
    return "`{}`".format(short.replace("|", "¦").replace("`", "'"))
