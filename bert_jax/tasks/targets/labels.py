"""Names of labels: from a config, a pretrained model or the records."""

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from bert_jax import settings
from bert_jax.data.records import Splits
from bert_jax.data.sources.labelled import Record
from bert_jax.models.activation_names import TORCH
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks.inputs import fields
from bert_jax.tasks.targets.target import Target

DEFAULT = ("LABEL_0", "LABEL_1")
"""The labels where nothing tells them, as in Transformers."""
_MOST = 10_000_000


@dataclasses.dataclass(frozen=True)
class LabelledTarget(Target):
  """What targets with named labels have in common.

  Attributes:
    labels: the names of the labels, in the order of the outputs; by default
      those of the training records, sorted.
  """

  labels: tuple[str, ...] = ()

  OUTPUTS: ClassVar = ("names",)

  def __post_init__(self):
    if len({*self.labels}) < len(self.labels):
      raise ValueError(
        f"labels: expected no name twice, got {list(self.labels)}"
      )

  @property
  def names(self) -> tuple[str, ...]:
    """The labels, or the default ones where there are none."""
    return self.labels or DEFAULT

  @property
  def num_outputs(self) -> int:
    return len(self.names)

  def head(self, config: EncoderConfig) -> Any:
    """A linear layer on the pooled vector."""
    from bert_jax.models import heads  # Needs JAX.

    return heads.SequenceHead(config, self.num_outputs, bias=True)

  def found(self, record: Record) -> Iterable[str]:
    """The names of a record's gold labels.

    Raises:
      UserError: a field is missing or of a wrong type.
    """
    raise NotImplementedError

  def ids(self, record: Record, names: Sequence[str] = ()) -> list[int]:
    """The ids of a record's gold labels, by default among `self.names`.

    Raises:
      UserError: as `found`; or a label is unknown.
    """
    known = names or self.names
    return [fields.index(self.FIELDS[0], x, known) for x in self.found(record)]

  def learned_ids(self, record: Record, training: bool) -> list[int]:
    """As `ids`; in evaluations -1 for a label that the model does not know."""
    if training:
      return self.ids(record)
    names = self.names
    return [names.index(x) if x in names else -1 for x in self.found(record)]

  def unseen(self, records: Sequence[Record]) -> tuple[str, ...]:
    """The gold labels that the model does not know; it gets them all wrong.

    Raises:
      UserError: it knows none of the gold labels.
    """
    found = dict.fromkeys(x for record in records for x in self.found(record))
    unseen = tuple(name for name in found if name not in self.names)
    if unseen and len(unseen) == len(found):
      raise UserError(
        f"{self.FIELDS[0]}: the records have {', '.join(unseen):.80}, but the"
        f" model's labels are {', '.join(self.names):.80}"
      )
    return unseen

  def gold_names(self, records: Sequence[Record]) -> tuple[str, ...]:
    """The labels of the model, then those that it does not know."""
    return self.names + self.unseen(records)

  def fit(self, records: Splits, pretrained: Self | None) -> Self:
    """Takes the labels of the pretrained model, or of the records."""
    named = records.each_known(lambda record: list(self.found(record)))
    found = list(itertools.chain.from_iterable(named))
    known = pretrained.labels if pretrained else ()
    return dataclasses.replace(self, labels=choose(self.labels, known, found))

  @classmethod
  def reads_huggingface(cls, config: Mapping[str, Any], where: str) -> bool:
    if not cls.PROBLEM_TYPE:
      return True
    return _problem_type(config, where) == cls.PROBLEM_TYPE

  @classmethod
  def from_huggingface(cls, config: Mapping[str, Any], where: str) -> Self:
    fields = {"labels": of_huggingface(config, where)}
    for name in cls.TUNED:
      if name in config:
        fields[name] = config[name]
    return settings.from_dict(cls, fields, where)

  def to_huggingface(self) -> dict[str, Any]:
    """Labels, the problem type, and what was tuned."""
    keys = {
      "id2label": {str(id): label for id, label in enumerate(self.names)},
      "label2id": {label: id for id, label in enumerate(self.names)},
    }
    if self.PROBLEM_TYPE:
      keys["problem_type"] = self.PROBLEM_TYPE
    tuned = {name: list(getattr(self, name)) for name in self.TUNED}
    return keys | json.loads(json.dumps(tuned))


def _problem_type(config: Mapping[str, Any], where: str) -> Any:
  """The `problem_type` of a config.json, or what takes its place.

  As in the pipeline of Transformers and in CrossEncoder of
  sentence-transformers: one label alone is a score. Where an activation is
  named, it says what several labels are.
  """
  given = config.get("problem_type")
  one = len(of_huggingface(config, where)) == 1
  if one and given in (None, "single_label_classification"):
    return "regression"
  if given is None:
    kinds = {
      None: "single_label_classification",
      "softmax": "single_label_classification",
      "identity": "single_label_classification",
      "sigmoid": "multi_label_classification",
    }
    given = kinds.get(torch_activation(config, where), "regression")
  return given


def torch_activation(config: Mapping[str, Any], where: str) -> str | None:
  """The activation of logits that sentence-transformers put into a config.json.

  Returns:
    A name in `models.activation_names.NAMES`, or `softmax`; None if there is
    none.

  Raises:
    UserError: it is unknown.
  """
  section = config.get("sentence_transformers")
  name = section.get("activation_fn") if isinstance(section, Mapping) else None
  name = name or config.get("sbert_ce_default_activation_function")
  if name is None:
    return None
  known = {f"torch.nn.{kind}": ours for kind, ours in TORCH.items()}
  known["torch.nn.Softmax"] = "softmax"
  short = re.sub(r"^torch\.nn\.modules\.\w+\.", "torch.nn.", str(name))
  return settings.choice(f"{where}: activation_fn", short, known)


def activation_keys(activation: str) -> dict[str, Any]:
  """The keys of config.json that `torch_activation` reads.

  Raises:
    UserError: PyTorch has no such activation.
  """
  names = {ours: theirs for theirs, ours in TORCH.items()}
  if activation not in names:
    raise UserError(f"activation: PyTorch has no {activation}")
  section = {"activation_fn": f"torch.nn.{names[activation]}"}
  return {"sentence_transformers": section}


def choose(
  given: Sequence[str],
  pretrained: Sequence[str],
  found: Sequence[str],
  key: Callable[[str], Any] | None = None,
) -> tuple[str, ...]:
  """The labels of a target that is to be trained.

  Args:
    given: by the config; none if it leaves them to the data.
    pretrained: of the initial model; they stay where they
      cover the data.
    found: in the records.
    key: sorts the found labels; by default numbers by their value, so that
      "2" comes before "10", and other names alphabetically.

  Raises:
    UserError: there are no labels.
  """
  if given:
    return tuple(given)
  if pretrained and set(found) <= set(pretrained):
    return tuple(pretrained)
  if not found:
    raise UserError("config.data.train: there are no labels in it")
  if key is None:
    key = int if all(label.isdecimal() for label in found) else str
  return tuple(sorted({*found}, key=key))


def one_each(
  name: str, values: Sequence[float], count: int, default: float
) -> tuple[float, ...]:
  """A value for each label, by default the same for all.

  Raises:
    ValueError: their number differs from `count`, or one is not finite.
  """
  values = tuple(values) or (default,) * count
  if len(values) != count:
    raise ValueError(
      f"{name}: expected {count}, one a label, got {len(values)}"
    )
  if not np.isfinite(values).all():
    raise ValueError(f"{name}: expected finite numbers, got {list(values)}")
  return values


def of_huggingface(config: Mapping[str, Any], where: str) -> tuple[str, ...]:
  """The labels in a config.json.

  Raises:
    UserError: `id2label` is damaged.
  """
  names_by_id = config.get("id2label")
  if names_by_id is None:
    count = config.get("num_labels", len(DEFAULT))
    if type(count) is not int or not 1 <= count <= _MOST:
      raise UserError(f"{where}: num_labels: expected a number, got {count!r}")
    names_by_id = {id: f"LABEL_{id}" for id in range(count)}
  try:
    by_id = {int(id): str(name) for id, name in names_by_id.items()}
  except (AttributeError, ValueError, TypeError) as error:
    raise UserError(
      f"{where}: id2label: expected a mapping from ids to labels, got"
      f" {names_by_id!r:.80}"
    ) from error
  if sorted(by_id) != list(range(len(by_id))) or not by_id:
    raise UserError(
      f"{where}: id2label: expected the ids 0 to {len(by_id) - 1}, got"
      f" {sorted(by_id)!r:.80}"
    )
  return tuple(by_id[id] for id in range(len(by_id)))
