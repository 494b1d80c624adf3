"""The files from which TensorBoard's projector shows the test pictures as a cloud of points."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hwr.alphabet import Alphabet
from hwr.errors import printable
from hwr.files import whole

MOST_POINTS = 5000
"""A browser turns so many smoothly."""
MOST_AXES = 100
"""TensorBoard reads the files of all runs at once; fifty runs of more axes keep it busy."""
MOST_PIXELS = 8192
"""Width and height of a sprite that WebGL takes."""

CONFIG = """embeddings {{
  tensor_name: "test pictures"
  tensor_path: "projector/features.tsv"
  metadata_path: "projector/labels.tsv"
  sprite {{
    image_path: "projector/sprite.png"
    single_image_dim: {width}
    single_image_dim: {height}
  }}
}}
"""


def write(
    folder: Path,
    features: NDArray[np.float32],
    image: NDArray[np.uint8],
    label: NDArray[np.int64],
    guess: NDArray[np.int64],
    alphabet: Alphabet,
) -> None:
    """Write `projector_config.pbtxt` and `projector/` into a run folder.

    Args:
        folder: The run folder.
        features: Where each picture lies, shape (N, D); of more than a hundred axes the principal
            components are kept, which hardly changes a distance.
        image: Shape (N, H, W).
        label: Shape (N,).
        guess: Predicted classes, shape (N,).
        alphabet: The classes.
    """
    shown = np.linspace(0, len(label) - 1, min(len(label), MOST_POINTS)).astype(int)
    height, width = image.shape[1:]
    scale = min(1.0, MOST_PIXELS / (np.ceil(np.sqrt(len(shown))) * max(height, width)))
    size = max(1, int(width * scale)), max(1, int(height * scale))
    names = [_word(name) for name in alphabet.names]
    rows = []
    for one, other in zip(label[shown], guess[shown], strict=True):
        title = names[one] if one == other else f"{names[one]} as {names[other]}"
        outcome = "right" if one == other else "wrong"
        rows.append((title, names[one], names[other], outcome))
    table = [("picture", "true", "predicted", "outcome"), *rows]
    lines = "".join("\t".join(row) + "\n" for row in table)
    with whole(folder / "projector/labels.tsv") as beside:
        beside.write_text(lines, encoding="utf-8")
    with whole(folder / "projector/features.tsv") as beside:
        np.savetxt(beside, _axes(features[shown]), fmt="%.4g", delimiter="\t")
    with whole(folder / "projector/sprite.png") as beside:
        beside.write_bytes(_sprite(image[shown], size))
    with whole(folder / "projector_config.pbtxt") as beside:  # last: it names the others
        beside.write_text(CONFIG.format(width=size[0], height=size[1]), encoding="utf-8")


def _axes(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """The features, or their principal components where there are too many, shape (N, D')."""
    if features.shape[1] <= MOST_AXES:
        return features.astype(np.float64)
    centred = np.nan_to_num(features - features.mean(axis=0, dtype=np.float64))
    _, vectors = np.linalg.eigh(centred.T @ centred)
    components: NDArray[np.float64] = centred @ vectors[:, : -MOST_AXES - 1 : -1]
    return components


def _word(name: str) -> str:
    """A class name that stays one cell of a line, and is never empty."""
    return printable(name)[:40].strip() or "(blank)"


def _sprite(image: NDArray[np.uint8], size: tuple[int, int]) -> bytes:
    """All pictures (N, H, W) in a square, row by row, as the content of a PNG file."""
    across = int(np.ceil(np.sqrt(len(image))))
    canvas = Image.new("L", (across * size[0], across * size[1]), 255)
    for number, picture in enumerate(image):
        drawn = Image.fromarray(picture)
        drawn = drawn if drawn.size == size else drawn.resize(size)
        canvas.paste(drawn, (number % across * size[0], number // across * size[1]))
    stream = io.BytesIO()
    canvas.save(stream, format="PNG")
    return stream.getvalue()
