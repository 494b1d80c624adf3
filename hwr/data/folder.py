"""A dataset of image files: with a table of labels, or with one folder for every class."""

import statistics
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwr.data import table
from hwr.data.cache import cached, digest, hash_of, in_threads, stamps
from hwr.data.dataset import CharacterDataset
from hwr.data.table import Table
from hwr.errors import ConfigError
from hwr.preprocessing import images


class FolderDataset(CharacterDataset):
    """Images of a folder, decoded once and then read from the cache.

    Args:
        name: What the dataset is called in metrics.
        root: The folder.
        csv: The table in it; None: the only one there, or else a folder for every class.
        image_column: Column of the files.
        label_column: Column of the labels.
        writer_column: Column of the writers; it may be missing.
        max_pixels: Larger images are rejected.
        preprocessing: `notebook`, or `ink` for gray images.
        height: Of the arrays, in pixels.
        width: Of the arrays, in pixels.
        channels: 1 for gray, 3 for color.
        cache: Folder of decoded images; None: `HWR_CACHE`, else `~/.cache/hwr`.

    Raises:
        ConfigError: Color images are asked of a preprocessing for gray ones.
        DataError: The dataset is missing or broken; every wrong row is named.
    """

    def __init__(
        self,
        name: str,
        root: str | Path,
        csv: str | None = None,
        image_column: str = "image",
        label_column: str = "label",
        writer_column: str = "writer",
        max_pixels: int = 50_000_000,
        preprocessing: str = "notebook",
        height: int = 30,
        width: int = 40,
        channels: int = 1,
        cache: str | None = None,
    ) -> None:
        if channels == 3 and preprocessing != "notebook":
            raise ConfigError(
                f"data.preprocessing={preprocessing} is for gray images, but data.channels=3; set "
                "data.channels=1 or data.preprocessing=notebook"
            )
        rows = table.read(root, csv, image_column, label_column, writer_column)
        array, aspect, fingerprint = _decoded(
            rows, stamps(rows.paths), preprocessing, height, width, channels, max_pixels, cache
        )
        super().__init__(
            name,
            array,
            rows.labels,
            files=rows.files,
            writers=rows.writers,
            aspect=aspect if preprocessing == "notebook" else None,
            fingerprint=fingerprint,
            preprocessing=preprocessing,
        )


@lru_cache(maxsize=2)
def _decoded(
    rows: Table,
    stamps: object,
    preprocessing: str,
    height: int,
    width: int,
    channels: int,
    max_pixels: int,
    cache: str | None,
) -> tuple[NDArray[np.uint8], float, str]:
    """Return arrays (N, C, H, W), aspect and fingerprint, from memory while no file is touched.

    So the jobs of a sweep in one process share the last two datasets.
    """
    # The key is made of what the files hold, so that no change of an image goes unnoticed.
    contents = in_threads(digest, rows.paths, "checking", "image", chunk=16)
    fingerprint = hash_of(zip(rows.files, rows.labels, contents, strict=True))
    shape = (len(rows.files), channels, height, width)

    def decode_all() -> NDArray[np.uint8]:
        array = np.empty(shape, np.uint8)

        def decode(row: int) -> str | None:
            if rows.paths[row].stat().st_size == 0:
                return f"{rows.files[row]} has zero bytes"
            try:
                with rows.paths[row].open("rb") as file:
                    array[row] = images.read(
                        file, preprocessing, height, width, max_pixels, channels
                    )
            except Exception as error:  # Pillow raises many kinds for broken files
                return f"{rows.files[row]} cannot be read as an image ({images.why(error)})"
            return None

        said = in_threads(decode, range(len(rows.files)), "decoding", "image")
        wrong = [(rows.rows[row], what) for row, what in enumerate(said) if what]
        table.complain(rows.source, [*rows.wrong, *wrong])
        return array

    if rows.wrong:
        decode_all()  # so that broken images are named together with the wrong rows
    if extra := table.unlisted(rows):
        count = "1 image" if len(extra) == 1 else f"{len(extra):,} images"
        print(f"hwr: {count} beside those of {rows.source} are in no row of it", file=sys.stderr)
    key = [fingerprint, preprocessing, height, width, channels]
    array = cached(cache, key, shape, decode_all)
    some = rows.paths[:: -(-len(rows.paths) // 12)]
    return array, statistics.median(images.aspect(path) for path in some), fingerprint
