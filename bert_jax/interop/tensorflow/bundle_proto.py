"""The protocol buffers in the index of a TensorFlow checkpoint.

Only the fields that reading weights needs, with their numbers in
`tensorflow/core/protobuf/tensor_bundle.proto` and
`tensorflow/core/framework/{tensor_shape,tensor_slice,versions}.proto`. Enums
are integers. Parsing skips all other fields.
"""

from google.protobuf import (
  descriptor_pb2,
  descriptor_pool,
  message,
  message_factory,
)

_PACKAGE = "bert_jax.tensor_bundle"
# For each message, the number and type of each field; [] is repeated.
_MESSAGES = {
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
}


def _classes() -> dict[str, type[message.Message]]:
  """A class for each message, in a descriptor pool of its own."""
  field_proto = descriptor_pb2.FieldDescriptorProto
  file = descriptor_pb2.FileDescriptorProto(
    name="bert_jax/tensor_bundle.proto", package=_PACKAGE, syntax="proto2"
  )
  for name, fields in _MESSAGES.items():
    message_type = file.message_type.add(name=name)
    for field_name, (number, kind) in fields.items():
      field = message_type.field.add(name=field_name, number=number)
      repeated = kind.endswith("[]")
      field.label = (
        field_proto.LABEL_REPEATED if repeated else field_proto.LABEL_OPTIONAL
      )
      kind = kind.removesuffix("[]")
      if kind in _MESSAGES:
        field.type = field_proto.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"
      else:
        field.type = field_proto.Type.Value(f"TYPE_{kind.upper()}")
  pool = descriptor_pool.DescriptorPool()
  pool.AddSerializedFile(file.SerializeToString())
  return {
    name: message_factory.GetMessageClass(
      pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")
    )
    for name in _MESSAGES
  }


_CLASSES = _classes()
Header = _CLASSES["Header"]
"""`BundleHeaderProto`: the value of the first, empty key of the index."""
Entry = _CLASSES["Entry"]
"""`BundleEntryProto`: the value of all other keys."""
