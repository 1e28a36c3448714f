"""The backend that `auto` selects, and the reasons of unsupported calls."""

import jax.numpy as jnp
import pytest

from bert_jax.models.attention import backends
from bert_jax.models.attention.backends import Call
from bert_jax.models.attention.devices import Device

H100 = Device("gpu", "NVIDIA H100 80GB HBM3")
V5E = Device("tpu", "TPU v5 lite")
CPU = Device("cpu", "cpu")


def call(device, shape=(4, 512, 12, 64), dtype="bfloat16", broadcast=None):
  return Call(device, jnp.dtype(dtype), shape, broadcast)


@pytest.mark.parametrize(
  ("asked", "chosen"),
  [
    (call(CPU), "xla"),
    (call(V5E), "short"),
    (call(V5E, dtype="float32"), "short"),
    (call(V5E, broadcast="queries"), "short"),
    (call(V5E, (4, 513, 12, 64)), "splash"),
    (call(V5E, (4, 512, 12, 60)), "splash"),
    (call(V5E, (4, 512, 3, 64)), "splash"),
    (call(V5E, broadcast="none"), "short"),
    (call(V5E, broadcast="rows"), "short"),
    (call(V5E, (4, 384, 12, 64)), "short"),
    (call(V5E, (4, 384, 12, 64), broadcast="none"), "xla"),
    (call(V5E, (4, 513, 12, 64), broadcast="none"), "xla"),
    (call(V5E, (4, 256, 12, 64)), "xla"),
    (call(V5E._replace(rows=4, heads=6)), "short"),
    (call(V5E._replace(rows=4, heads=4)), "splash"),
    (call(V5E._replace(rows=8)), "xla"),
    (call(V5E._replace(heads=8)), "xla"),
    (call(V5E)._replace(has_bias=True), "xla"),
    (call(V5E)._replace(has_stages=True), "short"),
    (call(V5E, (4, 513, 12, 64))._replace(has_stages=True), "xla"),
    (call(V5E)._replace(has_past=True), "xla"),
    (call(H100)._replace(has_stages=True), "cudnn"),
    (call(H100), "cudnn"),
    (call(H100, broadcast="queries"), "cudnn"),
    (call(H100, broadcast="none"), "xla"),
    (call(H100, dtype="float32"), "xla"),
    (call(H100, (4, 512, 12, 60)), "xla"),
    (call(Device("gpu", "AMD Instinct MI300X")), "xla"),
  ],
)
def test_auto_selects_the_backend(asked, chosen):
  assert backends.choose(asked) == chosen
  assert backends.unsupported(chosen, asked) is None


@pytest.mark.parametrize(
  ("backend", "asked", "message"),
  [
    ("splash", call(H100), "needs a TPU, and this is for NVIDIA H100"),
    ("cudnn", call(CPU), "needs an NVIDIA GPU, and this is for cpu"),
    ("cudnn", call(H100, dtype="float32"), "needs the dtype bfloat16"),
    ("cudnn", call(H100, (4, 512, 12, 60)), "width is a multiple of 8"),
    ("splash", call(V5E._replace(rows=8)), "4 rows and 12 heads"),
    ("splash", call(V5E, broadcast="none"), "no dropout of attention weights"),
    ("short", call(V5E, (4, 513, 12, 64)), "at most 512 tokens, got 513"),
    ("short", call(V5E._replace(heads=4)), "got 3 of width 64"),
    ("short", call(V5E)._replace(has_bias=True), "as relative_buckets needs"),
    ("splash", call(V5E)._replace(has_stages=True), "no stages of tokens"),
    ("cudnn", call(H100)._replace(has_past=True), "no keys of earlier calls"),
  ],
)
def test_unsupported_calls(backend, asked, message):
  assert message in backends.unsupported(backend, asked)
