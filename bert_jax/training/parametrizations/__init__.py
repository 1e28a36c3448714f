"""Parameters that are computed from others: adapters, masks, few bits."""

from collections.abc import Mapping
from typing import Any

from bert_jax import settings
from bert_jax.models.config import EncoderConfig
from bert_jax.training.parametrizations.lora import LoraConfig
from bert_jax.training.parametrizations.parametrization import Parametrization
from bert_jax.training.parametrizations.pruning import PruningConfig
from bert_jax.training.parametrizations.quantization import QuantizationConfig

CONFIGS: Mapping[str, Any] = {
  "lora": LoraConfig,
  "pruning": PruningConfig,
  "quantization": QuantizationConfig,
}
"""The sections of a recipe that make parametrizations, in order."""


def of_config(
  config: Mapping[str, Any], encoder: EncoderConfig, where: str
) -> tuple[Parametrization, ...]:
  """The parametrizations of a run.

  Args:
    config: the recipe as a dict; it may lack sections.
    encoder: of the run.
    where: the config's name in messages.

  Raises:
    UserError: a section is invalid.
  """
  made = [
    settings.from_dict(
      kind, config.get(name, {}), f"{where}.{name}"
    ).parametrization(encoder)
    for name, kind in CONFIGS.items()
  ]
  return tuple(part for part in made if part is not None)
