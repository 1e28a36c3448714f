"""The floating-point operations that a training step requires."""

from bert_jax.models.config import EncoderConfig

# The dense bfloat16 peak of one device in FLOP/s, by the prefix of its
# `device_kind`; from the vendors' data sheets.
PEAKS = {
  "NVIDIA H200": 989e12,
  "NVIDIA H100 80GB HBM3": 989e12,
  "NVIDIA A100": 312e12,
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5p": 459e12,
  "TPU v5": 459e12,
  "TPU v6 lite": 918e12,
}


def peak_flops(device_kind: str) -> float | None:
  """The bfloat16 peak of a device in FLOP/s; None for unknown devices."""
  for start, peak in PEAKS.items():
    if device_kind.startswith(start):
      return peak
  return None


def flops_per_layer(config: EncoderConfig) -> float:
  """FLOPs of a layer per position, without attention; forward pass only.

  Where layers differ, the mean of all.
  """
  layers = range(config.num_layers)
  return sum(_of_layer(config.of_layer(i)) for i in layers) / len(layers)


def _of_layer(config: EncoderConfig) -> float:
  width, inner = config.hidden_size, config.intermediate_size
  attended = config.num_heads * config.head_width
  return 8 * width * attended + (6 if config.gated else 4) * width * inner


def training_flops_per_token(
  config: EncoderConfig, length: int, predictions: int
) -> float:
  """FLOPs of one training step per position of a row.

  Counts matrix products only, two FLOPs per multiply-add; the backward pass
  counts twice the forward pass, rematerialization nothing. Attention counts the
  keys within the window, and with `disentangled` those of distances; the
  projections of distances, once for a batch, are left out.
  """
  width = config.hidden_size
  embedding = config.embedding_size or width
  projected = 2 * embedding * width if config.embedding_size else 0
  window = min(config.local_window + 1, length) if config.local_window else 0
  keys = sum(
    (window if window and layer % config.global_every else length)
    * config.of_layer(layer).num_heads
    for layer in range(config.num_layers)
  )
  if config.disentangled:
    buckets = min(2 * length, config.relative_buckets)
    keys += config.num_layers * config.num_heads * buckets
  head = 2 * width * embedding + 2 * embedding * config.vocab_rows
  encoder = (
    projected
    + config.num_layers * flops_per_layer(config)
    + 4 * config.head_width * keys
  )
  return 3 * (encoder + predictions / length * head)
