"""Load the images of a folder as a dataset."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.data.cache import cached, digest, hash_of, in_threads
from hwr.data.dataset import CharacterDataset
from hwr.data.folder.samples import read_samples
from hwr.errors import DataError
from hwr.files import expand_user
from hwr.preprocessing.decode import convert, open_file, reason, upright_size
from hwr.preprocessing.preprocessor import Preprocessor


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
        statistics: What the training images of a model look like (`ImageStatistics`), plain
            values; images are brought to that, as for inference. None: taken as they come.

    Raises:
        ConfigError: `channels` is 3, and `preprocessing` is for gray images.
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
        statistics: dict[str, Any] | None = None,
    ) -> None:
        samples = read_samples(root, csv, image_column, label_column, writer_column)
        files, paths = samples["file"].tolist(), samples["path"].tolist()
        rows, errors = samples["row"].tolist(), samples["error"].tolist()
        preprocessor = Preprocessor.of(preprocessing, height, width, channels, statistics)

        def decode(k: int) -> NDArray[np.uint8] | str:
            """Decode an image; or return what is wrong with it or its row in the table."""
            if errors[k]:
                return str(errors[k])
            try:
                with open_file(paths[k], max_pixels) as image:
                    return preprocessor(convert(image, channels), "auto")
            except Exception as error:  # Pillow raises many kinds for broken files
                return f"{rows[k]}{files[k]} cannot be read as an image ({reason(error)})"

        def decode_all() -> NDArray[np.uint8]:
            arrays = in_threads(decode, range(len(samples)), "decoding", "image")
            wrong = [x for k in np.argsort(samples.index) if isinstance(x := arrays[k], str)]
            if wrong:
                more = f"; and {len(wrong) - 20} more" if len(wrong) > 20 else ""
                if any(path is None for path in paths):
                    more += f"; {_content(expand_user(root))}"
                raise DataError(f"{root}: {len(wrong)} wrong: {'; '.join(wrong[:20])}{more}")
            return np.stack(arrays).reshape(-1, channels, height, width)

        if any(errors):
            decode_all()  # so that broken images are named together with wrong rows
        # The key is made of what the files hold, so that no change of an image goes unnoticed.
        contents = in_threads(digest, paths, "checking", "image", chunk=16)
        fingerprint = hash_of(zip(files, samples["label"], contents, strict=True))
        key = [fingerprint, preprocessing, height, width, channels, statistics]
        array = cached(cache, key, decode_all)
        self.paths = paths
        super().__init__(
            name,
            array,
            samples["label"].tolist(),
            files=files,
            writers=samples["writer"].tolist() if "writer" in samples else None,
            fingerprint=fingerprint,
            preprocessing=preprocessing,
        )

    def file_sizes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return width and height of the image files, upright, in pixels, shape (N, 2)."""
        return np.array([upright_size(self.paths[row]) for row in rows])


def _content(folder: Path) -> str:
    """Say where files are looked for."""
    names = sorted(x.name + "/" * x.is_dir() for x in folder.iterdir() if x.name[0] != ".")
    return f"paths are relative to {folder}, which holds {', '.join(names[:8])}"
