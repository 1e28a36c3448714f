"""Parses serialized `tf.train.Example` protos.

The messages are those of `tensorflow/core/example/{example,feature}.proto`.
"""

import numpy as np
from google.protobuf.message import DecodeError

from bert_jax.storage import protos

_DTYPES = {"bytes": object, "float": np.float32, "int64": np.int64}
_Example = protos.message_classes(
  "bert_jax.tf_example",
  {
    "Example": {"features": (1, "Features")},
    "Features": {"feature": (1, "Entry[]")},
    "Entry": {"key": (1, "bytes"), "value": (2, "Feature")},
    "Feature": {
      "bytes": (1, "Bytes|"),
      "float": (2, "Floats|"),
      "int64": (3, "Integers|"),
    },
    "Bytes": {"value": (1, "bytes[]")},
    "Floats": {"value": (1, "float[]")},
    "Integers": {"value": (1, "int64[]")},
  },
)["Example"]


def parse(data: bytes) -> dict[str, np.ndarray]:
  """The features by name: 1-D arrays of int64, float32, or object for bytes.

  Raises:
    ValueError: the bytes are not a valid Example.
  """
  try:
    entries = _Example.FromString(data).features.feature
    found = {entry.key.decode(): entry.value for entry in entries}
  except (DecodeError, UnicodeDecodeError) as error:
    raise ValueError(f"malformed proto: {error}") from None
  features = {}
  for name, feature in found.items():
    kind = feature.WhichOneof("kind") or "int64"
    features[name] = np.array(getattr(feature, kind).value, _DTYPES[kind])
  return features
