"""The section `config.teacher`."""

import dataclasses

from bert_jax import settings
from bert_jax.data.sources import files

_WEIGHTS = ("gold", "soft", "hidden", "relations")


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
  """The section `config.teacher`; by default nobody teaches.

  The loss is the sum of four terms, each times its weight. Dropout of the
  teacher is off.

  Attributes:
    models: the teacher, anything that `bert_jax.load` takes; several, separated
      by commas or as a list, are averaged as an ensemble.
    temperature: that the logits of student and teacher are divided by in the
      soft labels (Hinton et al. 2015, arXiv:1503.02531).
    gold: the weight of the task's own loss.
    soft: the weight of soft labels: the divergence of the student's
      probabilities from its teacher's, the squared difference of numbers, or of
      embeddings `data.targets.similarity.teacher_loss`.
    hidden: the weight of hidden states: the mean squared difference of those
      of the embeddings and of `layers` (Jiao et al. 2020, TinyBERT,
      arXiv:1909.10351). Where widths differ, a projection is trained with the
      student, and is no part of the loaded model.
    layers: for each layer of the student the number of the teacher's layer,
      from 0, that it learns from; -1 for none. By default evenly spread, so
      that the last learns from the last.
    relations: the weight of the relations of queries, of keys and of values in
      the student's last layer, for students of any width (Wang et al. 2021,
      MiniLMv2, arXiv:2012.15828).
    relation_layer: the teacher's layer, from 0, whose relations are learned;
      -1 is the last.
    relation_heads: the number of relation heads; 0 is the number of the
      teacher's heads.
    cache: a folder on a disk that all processes share, where the teacher's
      outputs for all training examples are kept, with checksums, so that they
      are computed once for any number of runs; empty computes them in each
      step. Hidden states are large: for each token as many floats as the
      teacher is wide, times the matched layers. Examples of a corpus and of
      several tasks differ from epoch to epoch and cannot be cached.
  """

  models: str | tuple[str, ...] = ()
  temperature: float = 2.0
  gold: float = 0.5
  soft: float = 0.5
  hidden: float = 0.0
  layers: tuple[int, ...] = ()
  relations: float = 0.0
  relation_layer: int = -1
  relation_heads: int = 0
  cache: str = ""

  def __post_init__(self):
    object.__setattr__(self, "models", files.split(self.models))
    settings.check(self, "at least 0", lambda x: x >= 0, *_WEIGHTS)
    settings.check(self, "at least 0", lambda x: x >= 0, "relation_heads")
    settings.check(self, "above 0", lambda x: x > 0, "temperature")
    settings.check(self, "at least -1", lambda x: x >= -1, "relation_layer")
    if not self.soft + self.hidden + self.relations:
      raise ValueError(
        "soft: expected a weight above 0 of soft, hidden or relations"
      )
    if self.layers and not self.hidden:
      raise ValueError("layers: go with a weight of hidden above 0")
    if len(self.models) > 1 and self.hidden + self.relations:
      raise ValueError(
        f"models: hidden and relations need one teacher, got {len(self.models)}"
      )
