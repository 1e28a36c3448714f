"""Checksums of files and records."""

import hashlib
from typing import BinaryIO

import google_crc32c
import numpy as np


def masked_crc32c(data: bytes | np.ndarray) -> int:
  """The masked CRC-32C of TFRecord files and TensorFlow checkpoints."""
  crc = google_crc32c.value(data)
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def size_and_sha256(file: BinaryIO) -> tuple[int, str]:
  """The number of bytes of an open file, and their SHA-256 in hexadecimal."""
  digest = hashlib.file_digest(file, "sha256").hexdigest()
  return file.tell(), digest
