"""The TPU chips that programs can be compiled for without a TPU."""

import dataclasses
import importlib.util
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.experimental import topologies

from bert_jax import settings
from bert_jax.settings import UserError


@dataclasses.dataclass(frozen=True)
class Chip:
  """The properties of a kind of chip, from Google's data sheets.

  Attributes:
    peak_flops: the dense bfloat16 peak, in FLOP/s.
    hbm_bytes: the memory of a device for the compiler, in bytes.
    clock: the clock rate of the cores, in Hz: the peak over the FLOPs of the
      matrix units in a cycle (4 units of 128 x 128 per core; of v6e 4 of
      256 x 256).
    link_bytes: the bandwidth between the chips of a slice, over all links of
      one chip in one direction, in bytes/s.
    max_chips: the number of chips of the largest slice.
    cores: the number of cores that form one device.
    options: the options of the topology.
  """

  peak_flops: float
  hbm_bytes: int
  clock: float
  link_bytes: float
  max_chips: int
  cores: int = 1
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


CHIPS = {
  # Both cores form one device ("megacore"), as in JAX on a v4.
  "v4": Chip(
    275e12, 32 << 30, 1.05e9, 300e9, 4096, 2, {"chip_config_name": "megacore"}
  ),
  "v5e": Chip(197e12, 16 << 30, 1.5e9, 200e9, 256),
  "v5p": Chip(459e12, 96 << 30, 1.75e9, 600e9, 8960, 2),
  "v6e": Chip(918e12, 32 << 30, 1.75e9, 448e9, 256),
}


def topology(name: str) -> tuple[Chip, Sequence[jax.Device]]:
  """The chip and the abstract devices of a slice, for compilation.

  Raises:
    UserError: there is no such slice, or the TPU compiler is not installed.
  """
  kind, colon, shape = name.partition(":")
  if not colon or not shape:
    raise UserError(f"--topology {name}: expected CHIP:SHAPE, such as v5e:4x4")
  chip = settings.choice("--topology", kind, CHIPS)
  # No TPU is used, so other processes may use libtpu.
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
  try:
    found = topologies.get_topology_desc(
      platform="tpu", topology_name=name, **chip.options
    )
  except Exception as error:  # The type depends on the cause.
    if importlib.util.find_spec("libtpu") is None:
      raise UserError(
        "--topology: the TPU compiler is not installed; pip install"
        " 'bert_jax[tpu]' or 'jax[tpu]' (x86-64 Linux)"
      ) from error
    reason = str(error).split(": ", 1)[-1].split("\n")[0]
    raise UserError(f"--topology {name}: {reason}") from error
  return chip, found.devices
