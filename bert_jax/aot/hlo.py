"""Parses the text of compiled programs: collectives and estimated cycles."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)

# Of matrices; TPUs compute them as convolutions.
_PRODUCTS = ("dot", "convolution")
_BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "f8e4m3fn": 8, "f8e5m2": 8}
_HEADER = re.compile(r"^(ENTRY )?%?([\w.-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
_OPCODE = re.compile(r"(?:^|\s)([a-z][\w-]*)\(")
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,]*)\]")
_CALLED = re.compile(
  r"\b(?:calls|body|branch_computations|called_computations)="
  r"(?:\{([^}]*)\}|%?([\w.-]+))"
)
_COMMENT = re.compile(r"/\*.*?\*/")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_KERNEL = re.compile(r'="tpu_custom_call".*?"body":"([^"]+)"')
_CONDITION = re.compile(r"\bcondition=%?([\w.-]+)")
_LIMIT = re.compile(r"^s32\[\]\S* constant\((\d+)\)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Instruction:
  """An instruction of a computation.

  Attributes:
    name: unique within the program.
    opcode: such as `all-reduce` or `fusion`.
    result: the bytes of each array of the result.
    dtype: that of its first array, as XLA names it, such as `bf16`.
    operands: the names of the operands.
    cycles: the estimate of the cost model; 0 without one.
    trips: the trip count of a loop; 1 if it is unknown, and for other
      instructions.
    called: the names of the computations that it runs.
    kernel: the MLIR module of a Pallas kernel for TPUs, in base64; empty for
      other instructions.
  """

  name: str
  opcode: str
  result: tuple[int, ...]
  dtype: str
  operands: tuple[str, ...]
  cycles: int
  trips: int
  called: tuple[str, ...]
  kernel: str


@dataclasses.dataclass(frozen=True)
class Program:
  """The computations of a program by name, and the name of its entry."""

  entry: str
  computations: Mapping[str, Sequence[Instruction]]


def parse(text: str) -> Program:
  """Parses the text of `jax.stages.Compiled.as_text`."""
  entry, computations = "", {}
  # The integer constants of each computation; the condition of a loop precedes
  # the loop.
  limits: dict[str, list[int]] = {}
  current: list[Instruction] = []
  numbers: list[int] = []
  for line in text.splitlines():
    if header := _HEADER.match(line):
      current = computations.setdefault(header[2], [])
      numbers = limits.setdefault(header[2], [])
      if header[1]:
        entry = header[2]
    elif found := _INSTRUCTION.match(line):
      current.append(_instruction(found[1], found[2], limits))
      numbers += map(int, _LIMIT.findall(found[2]))
  return Program(entry, computations)


def estimated_cycles(program: Program) -> int:
  """The cycles of all executed instructions, by the cost model.

  Only TPU programs have estimates. They are summed without overlap, and do not
  include kernels; see `kernels`.
  """
  return sum(
    instruction.cycles * times
    for instruction, times, is_fused in _walk(program, program.entry)
    if not is_fused
  )


def kernel_runs(program: Program) -> Counter[str]:
  """The number of runs of each kernel, by `Instruction.kernel`."""
  runs: Counter[str] = Counter()
  for instruction, times, _ in _walk(program, program.entry):
    if instruction.kernel:
      runs[instruction.kernel] += times
  return runs


def kernel(text: str) -> str:
  """The MLIR module of the kernel that an instruction calls, or ""."""
  found = _KERNEL.search(text)
  return found[1] if found else ""


def integer_products(program: Program) -> int:
  """The number of matrix products that are summed in 32-bit integers."""
  return sum(
    times
    for instruction, times, _ in _walk(program, program.entry)
    if instruction.opcode in _PRODUCTS and instruction.dtype == "s32"
  )


def collective_bytes(program: Program) -> dict[str, int]:
  """The bytes of the results of each kind of collective on one device.

  For a reduce-scatter, the bytes of its operands.
  """
  sizes: Counter[str] = Counter()
  results = {
    i.name: sum(i.result) for c in program.computations.values() for i in c
  }
  for instruction, times, _ in _walk(program, program.entry):
    kind = instruction.opcode.removesuffix("-start")
    if kind not in COLLECTIVES:
      continue
    size = sum(results.get(name, 0) for name in instruction.operands)
    if kind == "all-gather":
      # An `all-gather-start` returns its operands and its results.
      made = sum(instruction.result)
      size = made - size if instruction.opcode != kind else made
    sizes[kind] += size * times
  return dict(sizes)


def _walk(
  program: Program, name: str, times: int = 1, is_fused: bool = False
) -> Iterator[tuple[Instruction, int, bool]]:
  """Each instruction, its number of runs, and whether it is in a fusion."""
  for instruction in program.computations.get(name, ()):
    yield instruction, times, is_fused
    if instruction.opcode.endswith(("-done", "-update")):
      continue  # Its computation is that of the start.
    for called in instruction.called:
      yield from _walk(
        program,
        called,
        times * instruction.trips,
        is_fused or instruction.opcode == "fusion",
      )


def _instruction(
  name: str, rest: str, limits: Mapping[str, Sequence[int]]
) -> Instruction:
  found = _OPCODE.search(rest)
  opcode, shapes, tail = (
    (found[1], rest[: found.start()], rest[found.end() :])
    if found
    else ("", "", rest)
  )
  arguments, _, attributes = tail.partition(")")
  cycles = _CYCLES.search(attributes)
  arrays, called = _ARRAY.findall(shapes), []
  for several, one in _CALLED.findall(attributes):
    called += [x.strip().lstrip("%") for x in (several or one).split(",")]
  return Instruction(
    name=name,
    opcode=opcode,
    result=tuple(_bytes(*found) for found in arrays),
    dtype=arrays[0][0] if arrays else "",
    operands=tuple(
      x.split()[-1].lstrip("%")
      for x in _COMMENT.sub("", arguments).split(",")
      if x.strip()
    ),
    cycles=int(cycles[1]) if cycles else 0,
    trips=_trips(attributes, limits),
    called=tuple(called),
    kernel=kernel(attributes),
  )


def _trips(attributes: str, limits: Mapping[str, Sequence[int]]) -> int:
  """The trip count of a loop, from its attributes or from its condition.

  A condition with a single constant counts from 0 to it, as in `jax.lax.scan`.
  """
  if known := _TRIPS.search(attributes):
    return int(known[1])
  condition = _CONDITION.search(attributes)
  numbers = limits.get(condition[1], ()) if condition else ()
  return numbers[0] if len(numbers) == 1 else 1


def _bytes(dtype: str, shape: str) -> int:
  bits = _BITS.get(dtype) or int(re.sub(r"\D", "", dtype) or 0)
  return math.prod(int(n) for n in shape.split(",") if n) * bits // 8
