"""The checksum of the formats that TensorFlow shares with LevelDB."""

import google_crc32c
import numpy as np


def masked_crc32c(data: bytes | np.ndarray) -> int:
  """CRC-32C, rotated and offset as in TFRecord files and in checkpoints."""
  crc = google_crc32c.value(data)
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
