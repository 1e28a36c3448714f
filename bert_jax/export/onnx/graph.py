"""A small builder of ONNX graphs."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
"""The version of the standard operators."""
CONTRIB = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

# The oldest version of the file format that has the opset.
_IR_VERSION = 9
_TYPES = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}


class Graph:
  """Nodes, weights, inputs and outputs of a graph; values are names.

  >>> graph = Graph()
  >>> x = graph.input("x", "float32", ["batch", 4])
  >>> graph.output("y", graph.op("Relu", x), "float32", ["batch", 4])
  >>> model = graph.model()

  Nodes that compute the same are added once.
  """

  def __init__(self):
    self._nodes: list[onnx.NodeProto] = []
    self._weights: dict[str, np.ndarray] = {}
    self._inputs: list[onnx.ValueInfoProto] = []
    self._outputs: list[onnx.ValueInfoProto] = []
    self._known: dict[Any, tuple[str, ...]] = {}
    self._scope: list[str] = []
    self._contrib = False

  @contextlib.contextmanager
  def scope(self, name: str) -> Iterator[None]:
    """Begins the names of the nodes that are added inside."""
    self._scope.append(name)
    yield
    self._scope.pop()

  def input(self, name: str, dtype: str, shape: Sequence[str | int]) -> str:
    """Adds an input; strings in its shape are dynamic axes."""
    info = helper.make_tensor_value_info(name, _TYPES[dtype], shape)
    self._inputs.append(info)
    return name

  def output(
    self, name: str, value: str, dtype: str, shape: Sequence[str | int]
  ) -> None:
    """Makes a value an output of this name."""
    self._nodes.append(
      helper.make_node("Identity", [value], [name], f"output/{name}")
    )
    info = helper.make_tensor_value_info(name, _TYPES[dtype], shape)
    self._outputs.append(info)

  def weight(self, name: str, array: Any) -> str:
    """Adds a weight, once for each name."""
    if name not in self._weights:
      self._weights[name] = np.asarray(array)
    return name

  def constant(self, value: Any, dtype: str) -> str:
    """Adds a constant, once for each value."""
    array = np.asarray(value, dtype)
    digest = hashlib.sha256(array.tobytes()).hexdigest()[:8]
    sizes = "x".join(map(str, array.shape)) or "scalar"
    return self.weight(f"constant/{dtype}_{sizes}_{digest}", array)

  def ints(self, *values: int) -> str:
    """An int64 vector, as shapes and axes are."""
    return self.constant(values, "int64")

  def scalar(self, value: float) -> str:
    """A float32 number."""
    return self.constant(value, "float32")

  def op(
    self, kind: str, *inputs: str, domain: str = "", **attributes: Any
  ) -> str:
    """Adds a node with one output, whose name is returned.

    Args:
      kind: the operator.
      *inputs: values; an empty name is an optional input that is left out.
      domain: `CONTRIB`, or that of the standard operators.
      **attributes: of the operator.
    """
    return self.ops(kind, *inputs, domain=domain, count=1, **attributes)[0]

  def ops(
    self,
    kind: str,
    *inputs: str,
    count: int,
    domain: str = "",
    **attributes: Any,
  ) -> tuple[str, ...]:
    """The same for a node with several outputs."""
    known = (kind, inputs, count, repr(sorted(attributes.items())))
    if known not in self._known:
      path = "/".join((*self._scope, kind))
      name = f"{path}_{len(self._nodes)}"
      made = (name, *(f"{name}:{i}" for i in range(1, count)))
      self._nodes.append(
        helper.make_node(kind, inputs, made, name, domain=domain, **attributes)
      )
      self._contrib |= domain == CONTRIB
      self._known[known] = made
    return self._known[known]

  def cast(self, value: str, dtype: str) -> str:
    """The value in another dtype."""
    types = {**_TYPES, "int32": TensorProto.INT32, "bool": TensorProto.BOOL}
    return self.op("Cast", value, to=types[dtype])

  def size(self, value: str, axis: int) -> str:
    """The length of an axis, an int64 vector of one entry."""
    return self.op("Shape", value, start=axis, end=axis + 1)

  def reshape(self, value: str, *shape: str | int) -> str:
    """Reshapes to sizes that are numbers, or values of one entry."""
    if all(isinstance(size, int) for size in shape):
      return self.op("Reshape", value, self.ints(*shape))
    sizes = [x if isinstance(x, str) else self.ints(x) for x in shape]
    return self.op("Reshape", value, self.op("Concat", *sizes, axis=0))

  def slice(self, value: str, start: str, stop: str, axis: int) -> str:
    """The entries of an axis from `start` to `stop`, values of one entry."""
    return self.op("Slice", value, start, stop, self.ints(axis))

  def range(self, count: str) -> str:
    """The int64 numbers from 0 to a value of one entry, that one excluded."""
    stop = self.op("Squeeze", count, self.ints(0))
    zero, one = (self.constant(x, "int64") for x in (0, 1))
    return self.op("Range", zero, stop, one)

  def model(self) -> onnx.ModelProto:
    """The model of all that was added."""
    weights = [
      numpy_helper.from_array(np.asarray(array), name)
      for name, array in self._weights.items()
    ]
    graph = helper.make_graph(
      self._nodes, "bert_jax", self._inputs, self._outputs, weights
    )
    opsets = [helper.make_opsetid("", OPSET)]
    if self._contrib:
      opsets.append(helper.make_opsetid(CONTRIB, 1))
    return helper.make_model(
      graph,
      producer_name="bert_jax",
      opset_imports=opsets,
      ir_version=_IR_VERSION,
    )
