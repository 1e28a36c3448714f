"""TPU chips that programs can be compiled for without having one."""

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
  """What a kind of chip can do; from Google's data sheets.

  Attributes:
    peak_flops: dense bf16, in FLOP/s.
    hbm_bytes: the memory of a device, as the compiler has it.
    clock: of the cores, in Hz: the peak over what the matrix units do in a
      cycle (4 of 128 x 128 a core, of v6e 4 of 256 x 256).
    link_bytes: between chips of a slice, over all links of one chip, in each
      direction, in bytes/s.
    most: chips of the largest slice.
    cores: that are one device together.
    options: what the topology takes besides its name.
  """

  peak_flops: float
  hbm_bytes: int
  clock: float
  link_bytes: float
  most: int
  cores: int = 1
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


CHIPS = {
  # Both cores as one device, which is how jax runs on a v4.
  "v4": Chip(
    275e12, 32 << 30, 1.05e9, 300e9, 4096, 2, {"chip_config_name": "megacore"}
  ),
  "v5e": Chip(197e12, 16 << 30, 1.5e9, 200e9, 256),
  "v5p": Chip(459e12, 96 << 30, 1.75e9, 600e9, 8960, 2),
  "v6e": Chip(918e12, 32 << 30, 1.75e9, 448e9, 256),
}


def topology(name: str) -> tuple[Chip, Sequence[jax.Device]]:
  """The devices of a slice, to lay a mesh over and to compile for.

  Args:
    name: as `v5e:4x4`.

  Raises:
    UserError: there is no such slice, or no compiler for it.
  """
  kind, colon, shape = name.partition(":")
  if not colon or not shape:
    raise UserError(f"--topology {name}: expected CHIP:SHAPE, as v5e:4x4")
  chip = settings.choice("--topology", kind, CHIPS)
  # No TPU is used that another process may be at.
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
  try:
    found = topologies.get_topology_desc(
      platform="tpu", topology_name=name, **chip.options
    )
  except Exception as error:  # Of several types, by what is missing.
    if importlib.util.find_spec("libtpu") is None:
      raise UserError(
        "--topology: the TPU compiler is not installed; pip install"
        " 'bert_jax[tpu]' or 'jax[tpu]' (x86-64 Linux)"
      ) from error
    reason = str(error).split(": ", 1)[-1].split("\n")[0]
    raise UserError(f"--topology {name}: {reason}") from error
  return chip, found.devices
