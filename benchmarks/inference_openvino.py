"""OpenVINO's files for `benchmarks.inference`, written by its own tools.

    python -m benchmarks.inference_openvino NETWORK SAMPLES FLOAT32 INT8

NETWORK is a SavedModel of images in [-1, 1], SAMPLES a NumPy file of pictures, uint8 (N, height, width, 3), for the
ranges of NNCF's quantisation after training; FLOAT32 and INT8 are the .xml files to write.
"""

import sys

import nncf
import numpy as np
import openvino

from benchmarks.inference_worker import scaled


def main(network: str, samples: str, float32: str, int8: str) -> None:
    model = openvino.Core().read_model(network)
    openvino.save_model(model, float32, compress_to_fp16=False)
    images = np.load(samples)
    ranges = nncf.Dataset([scaled(image[np.newaxis]) for image in images])
    openvino.save_model(nncf.quantize(model, ranges, subset_size=len(images)), int8, compress_to_fp16=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
