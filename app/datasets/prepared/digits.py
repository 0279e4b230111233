"""1,797 handwritten digits of 8 x 8 pixels, real ones, as a TensorFlow Datasets builder that needs no network.

The images are the "Optical Recognition of Handwritten Digits" test set of E. Alpaydin and C. Kaynak (UCI, 1998), which
scikit-learn carries.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import sklearn.datasets
import tensorflow_datasets as tfds


class Digits(tfds.core.GeneratorBasedBuilder):
    """Splits of 1,293 (train), 144 (validation) and 360 (test) images: stratified, and fixed by the images' hashes."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        digits = sklearn.datasets.load_digits()
        # 16 grey levels, 0 to 16, as scikit-learn has them; 255 is not a multiple of 16, so the levels are rounded.
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        keys = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
        # Every fifth image of the list sorted by class and hash is a test image, every tenth of the rest validation:
        # each class gives its share, and no seed or order of files decides.
        order = sorted(range(len(images)), key=lambda i: (digits.target[i], keys[i]))
        test = order[::5]
        rest = [i for position, i in enumerate(order) if position % 5]
        validation = rest[::10]
        train = [i for position, i in enumerate(rest) if position % 10]

        def examples(indices: list[int]) -> Iterator[tuple[str, dict[str, Any]]]:
            for i in indices:
                yield f"{keys[i]}_{i}", {"image": images[i][..., np.newaxis], "label": int(digits.target[i])}

        return {"train": examples(train), "validation": examples(validation), "test": examples(test)}

    def _generate_examples(self, **_: Any) -> Any:
        raise NotImplementedError("_split_generators gives the examples themselves.")
