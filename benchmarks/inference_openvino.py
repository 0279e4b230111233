"""OpenVINO's files for `benchmarks.inference`, written by its own tools.

    python -m benchmarks.inference_openvino NETWORK IMAGES FLOAT32 INT8

NETWORK is a SavedModel of images as a network takes them, IMAGES a NumPy file of such, float32 (N, height, width, 3),
for the ranges of NNCF's quantisation after training, by its defaults; FLOAT32 and INT8 are the .xml files to write.
"""

import os
import sys

os.environ.setdefault("NNCF_CI", "1")  # or it reports to its makers that it was used

import nncf
import numpy as np
import openvino


def main(network: str, images: str, float32: str, int8: str) -> None:
    model = openvino.Core().read_model(network)
    openvino.save_model(model, float32, compress_to_fp16=False)
    some = np.load(images)
    ranges = nncf.Dataset([image[np.newaxis] for image in some])
    openvino.save_model(nncf.quantize(model, ranges, subset_size=len(some)), int8, compress_to_fp16=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
