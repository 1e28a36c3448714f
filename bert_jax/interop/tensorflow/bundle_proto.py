"""The protocol buffers in the index of a TensorFlow checkpoint.

Only the fields that reading weights needs, with their numbers in
`tensorflow/core/protobuf/tensor_bundle.proto` and
`tensorflow/core/framework/{tensor_shape,tensor_slice,versions}.proto`. Enums
are integers.
"""

from bert_jax.storage import protos

_CLASSES = protos.message_classes(
  "bert_jax.tensor_bundle",
  {
    "Version": {"min_consumer": (2, "int32"), "bad_consumers": (3, "int32[]")},
    "Header": {
      "num_shards": (1, "int32"),
      "endianness": (2, "int32"),  # 0 is little
      "version": (3, "Version"),
    },
    "Dimension": {"size": (1, "int64")},
    "Shape": {"dim": (2, "Dimension[]"), "unknown_rank": (3, "bool")},
    "Extent": {"start": (1, "int64"), "length": (2, "int64")},
    "Slice": {"extent": (1, "Extent[]")},
    "Entry": {
      "dtype": (1, "int32"),
      "shape": (2, "Shape"),
      "shard_id": (3, "int32"),
      "offset": (4, "int64"),
      "size": (5, "int64"),
      "crc32c": (6, "fixed32"),
      "slices": (7, "Slice[]"),
    },
  },
)
Header = _CLASSES["Header"]
"""`BundleHeaderProto`: the value of the first, empty key of the index."""
Entry = _CLASSES["Entry"]
"""`BundleEntryProto`: the value of all other keys."""
