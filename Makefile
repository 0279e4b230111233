# Every target sets up what it needs: `.venv`, installed once with the versions of constraints.txt.
.PHONY: setup backends demo notebook test test-slow test-long lint bench clean

READY := .venv/ready
SEED ?= 0
# A module goes to one worker, the longest first: see tests/conftest.py.
PYTEST := .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

setup: $(READY)

$(READY): setup.cfg pyproject.toml constraints.txt
	@python=$$(sh .ci/find-python) && echo "Setting up .venv with $$python (a few minutes the first time)" && "$$python" -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[app,runtimes,serve,cloud,heif,test,lint]"
	@touch $@

# Keras on JAX and on PyTorch without TensorFlow, each in an environment of its own, for tests/models/test_backends.py,
# which is skipped without them. On Linux PyPI's torch brings 3 GB of CUDA along: docs/backends.md has the way round.
backends: .backends/jax/ready .backends/torch/ready

.backends/%/ready: constraints.txt
	@python=$$(sh .ci/find-python) && echo "Setting up .backends/$*" && "$$python" -m venv .backends/$*
	@.backends/$*/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $* keras h5py safetensors
	@touch $@

# The main job on 1,797 real digits, from scratch: a few minutes on two cores. With population statistics before every
# validation: after the 40 steps of an epoch the moving averages are of weights of long ago.
demo: $(READY)
	rm -rf runs/demo exports/demo
	.venv/bin/python -m app train digits --network bn_inception --to runs/demo --set epochs=8 --set batch_norm.recalibrate=epoch --set seed=$(SEED)
	.venv/bin/python -m app export runs/demo --to exports --formats saved_model,tflite,onnx,openvino --quantize int8
	.venv/bin/python -m app verify exports/demo
	.venv/bin/python -m app predict exports/demo runs/demo/golden/00.png
	@echo "Open runs/demo/report.html in a browser. This serves the network, and a page to try it at http://127.0.0.1:8501/:"
	@echo "    .venv/bin/python -m app serve exports/demo --artefact tflite"

# JupyterLab in the folder of the notebooks, installed the first time; its kernels find `app` and `models` in the checkout.
# OPTIONS are those of `jupyter lab`, as in OPTIONS=--no-browser.
notebook: .venv/notebook
	PYTHONPATH="$(CURDIR)" .venv/bin/python -m jupyterlab --notebook-dir=notebooks $(OPTIONS)

.venv/notebook: $(READY)
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[app,test,notebook]"
	@touch $@

test: $(READY)
	$(PYTEST) -m "not slow and not long"

test-slow: $(READY)
	$(PYTEST) -m "slow and not long"

# pytest ends with 5 where no test is marked so.
test-long: $(READY)
	$(PYTEST) -m long || [ $$? -eq 5 ]

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/nbstripout --verify notebooks/*.ipynb

bench: $(READY) .peers/ready
	.venv/bin/python -m benchmarks.batch_normalization
	.venv/bin/python -m benchmarks.batch_normalization --network inception_v3
	.venv/bin/python -m benchmarks.population_statistics
	.venv/bin/python -m benchmarks.weights_import
	.venv/bin/python -m benchmarks.scanning
	.venv/bin/python -m benchmarks.input_pipeline
	.venv/bin/python -m benchmarks.evaluation
	.venv/bin/python -m benchmarks.quantization
	.venv/bin/python -m benchmarks.inference
	.venv/bin/python -m benchmarks.inference --network bn_inception
	.venv/bin/python -m benchmarks.inference --network bn_inception --side 64
	.venv/bin/python -m benchmarks.serving --side 64
	.venv/bin/python -m benchmarks.serving --network inception_v3
	.venv/bin/python -m benchmarks.first_answer
	.venv/bin/python -m benchmarks.answer_per_row
	.venv/bin/python -m benchmarks.deep_dream
	.venv/bin/python -m benchmarks.ensemble
	.venv/bin/python -m benchmarks.checkpoints
	.venv/bin/python -m benchmarks.fine_tuning
	.venv/bin/python -m benchmarks.training_step
	.venv/bin/python -m benchmarks.training_step --memory
	.venv/bin/python -m benchmarks.cost_growth

# What training is measured against. PyPI's torch is the one for CUDA, some gigabytes; where pip is told of an index that
# has PyTorch's file for the CPU (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS), it takes that.
.peers/ready: constraints.txt
	@.venv/bin/python -m venv .peers
	@.peers/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch torchvision timm
	@touch $@

clean:
	rm -rf .venv .peers .backends build *.egg-info .mypy_cache .ruff_cache .pytest_cache
