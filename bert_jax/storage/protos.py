"""Protocol buffers without generated code, from tables of their fields."""

from collections.abc import Mapping

from google.protobuf import (
  descriptor_pb2,
  descriptor_pool,
  message,
  message_factory,
)


def message_classes(
  package: str, messages: Mapping[str, Mapping[str, tuple[int, str]]]
) -> dict[str, type[message.Message]]:
  """A class for each message, in a separate descriptor pool.

  Args:
    package: a unique name of the package.
    messages: for each message, the number and type of each field: a scalar
      type or a message; `[]` is repeated, `|` a member of the only `oneof`.
      Parsing skips all other fields.
  """
  field_proto = descriptor_pb2.FieldDescriptorProto
  file = descriptor_pb2.FileDescriptorProto(
    name=f"{package}.proto", package=package, syntax="proto2"
  )
  for name, fields in messages.items():
    message_type = file.message_type.add(name=name)
    for field_name, (number, kind) in fields.items():
      field = message_type.field.add(name=field_name, number=number)
      field.label = field_proto.LABEL_OPTIONAL
      if kind.endswith("[]"):
        field.label = field_proto.LABEL_REPEATED
      if kind.endswith("|"):
        field.oneof_index = 0
        if not message_type.oneof_decl:
          message_type.oneof_decl.add(name="kind")
      kind = kind.rstrip("[]|")
      if kind in messages:
        field.type = field_proto.TYPE_MESSAGE
        field.type_name = f".{package}.{kind}"
      else:
        field.type = field_proto.Type.Value(f"TYPE_{kind.upper()}")
  pool = descriptor_pool.DescriptorPool()
  pool.AddSerializedFile(file.SerializeToString())
  return {
    name: message_factory.GetMessageClass(
      pool.FindMessageTypeByName(f"{package}.{name}")
    )
    for name in messages
  }
