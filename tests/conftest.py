"""What holds for all tests: Keras runs on torch where a test does not say otherwise."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
