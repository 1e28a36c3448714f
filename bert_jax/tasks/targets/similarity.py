"""How similar texts are: their vectors, as sentence-transformers makes them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float, Int

from bert_jax.batch import Array, Batch, Mean
from bert_jax.data.records import Splits
from bert_jax.data.sources.labelled import Record
from bert_jax.models import pooling
from bert_jax.models.config import EncoderConfig
from bert_jax.models.pooling import VectorModule
from bert_jax.settings import UserError
from bert_jax.tasks.inputs import fields
from bert_jax.tasks.inputs.rows import PREFIX
from bert_jax.tasks.metrics import regression, retrieval
from bert_jax.tasks.targets import losses, similarity_losses, view
from bert_jax.tasks.targets.target import (
  Arrays,
  Means,
  Metrics,
  Records,
  Target,
  Vocabulary,
)
from bert_jax.tasks.targets.values import number
from bert_jax.tasks.targets.view import View

SKIPPED = f"{PREFIX}prompt_tokens"
"""The array of `Pairs` that counts the tokens that are not pooled."""

OBJECTIVES = {"contrastive": ("negative",), "similarity": ("label",)}
"""The objectives, each with the fields that it learns from besides a pair."""

Hidden = Float[Array, "batch texts length hidden"]
Vectors = Float[np.ndarray, "... width"]
_DEPTHS = (1, 5, 10)
_QUERIES = 256


@dataclasses.dataclass(frozen=True)
class Similarity(Target):
  """Vectors of texts whose cosines say how similar the texts are.

  Needs `Pairs` as inputs. The arrays of a batch:

    weights: float32 [batch], 0 for padding rows.
    similarities: float32 [batch], the wanted cosine of text and pair; with the
      objective `similarity` only.

  Predictions are vectors, float32 [width], or [texts, width] of a pair.

  Attributes:
    pooling: `cls` (the first token's vector), `max` or `mean` over all tokens,
      or another of `models.pooling.MODES`; the vectors of several are
      concatenated. By default that of the initial model, or else `mean`.
    normalize: whether vectors are scaled to length 1.
    objective: `contrastive`: text and pair belong together, and the pairs of
      other rows of the micro-batch do not (so `config.accumulation` leaves each
      fewer negatives), nor does `negative`, where records have one.
      `similarity`: the number `label` says how similar text and pair are.
    scale: contrastive: the factor of cosines before the softmax, 1 by the
      temperature.
    symmetric: contrastive: whether pairs are to be told by their texts too.
    label_range: similarity: the labels that stand for a cosine of 0 and of 1;
      by default the least and the greatest in the records.
    modules: dense layers and norms after pooling, before `normalize`; those of
      the model that training continues from.
    matryoshka: widths of prefixes of the vectors that are trained as well; the
      loss is the mean over these and the whole vectors, so that vectors can be
      cut (Kusupati et al. 2022, arXiv:2205.13147).
    teacher_loss: how vectors learn from those of `config.teacher`: `cosine` is
      1 less their cosine, `mse` the squared difference of their entries, both
      for vectors of one width; `similarities`, for any widths, compares the
      cosines of all texts of the micro-batch with one another.
    truncate_dim: above 0, answers are the first entries of the vectors, which
      are not scaled again.
  """

  pooling: tuple[str, ...] = ()
  normalize: bool = False
  objective: str = "contrastive"
  scale: float = 20.0
  symmetric: bool = False
  label_range: tuple[float, ...] = ()
  modules: tuple[VectorModule, ...] = ()
  matryoshka: tuple[int, ...] = ()
  teacher_loss: str = "cosine"
  truncate_dim: int = 0

  OPTIONAL: ClassVar = ("negative",)
  EVALUATED: ClassVar = ("label", "negative")
  # Only vectors of the same model can be compared.
  AVERAGES: ClassVar = False
  ARCHITECTURE: ClassVar = "Model"

  def __post_init__(self):
    modes = pooling.MODES
    if not set(self.pooling) <= set(modes):
      raise ValueError(
        f"pooling: expected some of {', '.join(modes)}, got {self.pooling!r}"
      )
    if self.truncate_dim < 0:
      raise ValueError(
        f"truncate_dim: expected at least 0, got {self.truncate_dim}"
      )
    if self.objective not in OBJECTIVES:
      known = " or ".join(OBJECTIVES)
      raise ValueError(f"objective: expected {known}, got {self.objective!r}")
    if self.teacher_loss not in similarity_losses.TEACHER_LOSSES:
      known = ", ".join(similarity_losses.TEACHER_LOSSES)
      raise ValueError(
        f"teacher_loss: expected one of {known}, got {self.teacher_loss!r}"
      )
    if not all(width > 0 for width in self.matryoshka):
      raise ValueError(
        f"matryoshka: expected widths above 0, got {list(self.matryoshka)}"
      )
    if not self.scale > 0:
      raise ValueError(f"scale: expected more than 0, got {self.scale}")
    if self.label_range and not (
      len(self.label_range) == 2 and self.label_range[0] < self.label_range[1]
    ):
      raise ValueError(
        "label_range: expected the least and the greatest label, got"
        f" {list(self.label_range)}"
      )

  @property
  def FIELDS(self) -> tuple[str, ...]:
    return OBJECTIVES[self.objective]

  @property
  def HEAD(self) -> str:
    return "vectors" if self.modules else "hidden_states"

  @property
  def modes(self) -> tuple[str, ...]:
    """The pooling modes."""
    return self.pooling or ("mean",)

  def width(self, config: EncoderConfig) -> int:
    """The width of the vectors."""
    width = len(self.modes) * config.hidden_size
    for module in self.modules:
      width = module.features or width
    return min(width, self.truncate_dim or width)

  def head(self, config: EncoderConfig) -> Any:
    """The hidden states; with `modules`, the vectors before `normalize`."""
    from bert_jax.models import heads  # Needs JAX.

    if self.modules:
      return heads.VectorHead(config, self.modes, self.modules, SKIPPED)
    return heads.HiddenStates()

  def has_gold(self, record: Record) -> bool:
    return record.get("pair") is not None

  def gold(self, record: Record) -> float:
    if record.get("label") is None:
      raise UserError("expected the field 'label', a number")
    return number("label", record["label"])

  def arrays(self, record: Record, training: bool) -> Arrays:
    if not self._has_labels:
      return {}
    (low, high), label = self.label_range, self.gold(record)
    if not low <= label <= high:
      raise UserError(
        f"the label {label:g}: expected label_range, {low:g} to {high:g}"
      )
    return {"similarities": np.float32((label - low) / (high - low))}

  @property
  def _has_labels(self) -> bool:
    return self.objective == "similarity" and bool(self.label_range)

  @property
  def array_specs(self) -> Mapping[str, tuple[Any, str]]:
    """With the objective `similarity`, the wanted cosines too."""
    similarities = {"similarities": (np.float32, "")}
    return super().array_specs | (similarities if self._has_labels else {})

  def fit(self, records: Splits, pretrained: Self | None) -> Self:
    """The range of the labels; the pooling of a pretrained model."""
    if pretrained:
      fitted = dataclasses.replace(
        self,
        pooling=self.pooling or pretrained.pooling,
        normalize=self.normalize or pretrained.normalize,
        modules=self.modules or pretrained.modules,
        truncate_dim=self.truncate_dim or pretrained.truncate_dim,
      )
      if fitted.modules and len(fitted.modes) != len(pretrained.modes):
        raise UserError(
          f"pooling: the model has layers after {len(pretrained.modes)} pooling"
          f" modes, got {len(fitted.modes)}"
        )
      return fitted.fit(records, None)
    if self.objective != "similarity" or self.label_range:
      return self
    found = {*records.each_of_both(self.gold)}
    if len(found) < 2:
      raise UserError(
        "label_range: expected records with different numbers as labels to"
        f" tell it from, got {sorted(found)}"
      )
    return dataclasses.replace(self, label_range=(min(found), max(found)))

  def loss(self, outputs: Hidden, arrays: Arrays, batch: Batch) -> Means:
    return self._learned(outputs, arrays, batch)[0]

  def taught(self, outputs: Array, batch: Batch) -> Array:
    """The vectors, float32 [batch, texts, width]."""
    return self._vectors(outputs, batch)

  def soft_loss(
    self,
    outputs: Array,
    taught: Float[Array, "batch texts width"],
    arrays: Arrays,
    batch: Batch,
    temperature: float,
  ) -> Mean:
    """See `teacher_loss`.

    Raises:
      UserError: it needs vectors of one width, and they are not.
    """
    del temperature
    vectors = self._vectors(outputs, batch)
    compare = similarity_losses.TEACHER_LOSSES[self.teacher_loss]
    own, other = vectors.shape[-1], taught.shape[-1]
    if own != other and self.teacher_loss != "similarities":
      raise UserError(
        "config.data.targets.similarity.teacher_loss: vectors have the widths"
        f" {own} and, of the teacher, {other}; only similarities compares them"
      )
    are_texts = (batch.sequence_ids > 0).any(-1)
    weights = arrays["weights"][:, None] * are_texts
    weights = weights.reshape(-1)
    values = compare(
      vectors.reshape(-1, own), taught.reshape(-1, other), weights
    )
    return losses.mean(values, weights)

  def metrics(self, outputs: Hidden, arrays: Arrays, batch: Batch) -> Means:
    return self._learned(outputs, arrays, batch)[1]

  def _learned(
    self, outputs: Hidden, arrays: Arrays, batch: Batch
  ) -> tuple[Means, Means]:
    vectors = self._vectors(outputs, batch)
    losses, found = self._learned_of(vectors, arrays, batch)
    if wide := [n for n in self.matryoshka if n >= vectors.shape[-1]]:
      raise UserError(
        f"matryoshka: expected less than the width {vectors.shape[-1]}, got"
        f" {wide}"
      )
    parts = [losses] + [
      self._learned_of(vectors[..., :width], arrays, batch)[0]
      for width in self.matryoshka
    ]
    # The weights are the same.
    joint = {
      name: mean._replace(
        total=sum(part[name].total for part in parts) / len(parts)
      )
      for name, mean in losses.items()
    }
    return joint, found

  def _learned_of(
    self, vectors: Array, arrays: Arrays, batch: Batch
  ) -> tuple[Means, Means]:
    weights = arrays["weights"]
    if self.objective == "similarity":
      wanted = arrays["similarities"]
      return similarity_losses.regression(vectors, wanted, weights), {}
    return similarity_losses.ranking(
      vectors, batch.token_ids, weights, self.scale, self.symmetric
    )

  def pool(
    self,
    hidden: Float[Array, "*rows length hidden"],
    sequence_ids: Int[Array, "*rows length"],
    skipped: Int[Array, " batch"] | None = None,
  ) -> Float[Array, "*rows width"]:
    """The vector of each row, without padding; float32.

    The rules are those of sentence-transformers' modules Pooling and
    Normalize. See `pooling.pool_tokens` for the arguments.
    """
    pool = _pool if isinstance(hidden, np.ndarray) else _compiled_pool()
    return pool(
      hidden, sequence_ids, skipped, modes=self.modes, normalize=self.normalize
    )

  def _vectors(
    self, outputs: Array, batch: Batch
  ) -> Float[Array, "batch *texts width"]:
    """The whole vectors, from the outputs of the head."""
    if self.modules:
      return pooling.unit(outputs) if self.normalize else outputs
    skipped = batch.targets.get(SKIPPED)
    return self.pool(outputs, batch.sequence_ids, skipped)

  def predict(
    self,
    outputs: Float[Array, "batch ..."],
    batch: Batch,
    records: Records,
    tokenizer: Vocabulary,
  ) -> list[Vectors]:
    vectors = np.asarray(self._vectors(outputs, batch))[: len(records)]
    if self.truncate_dim:
      vectors = vectors[..., : self.truncate_dim]
    if vectors.ndim == 2:
      return list(vectors)
    texts = np.asarray(batch.sequence_ids).any(-1).sum(-1)
    return [row[:count] for row, count in zip(vectors, texts)]

  def decode(
    self, record: Record, prediction: Vectors, tokenizer: Vocabulary
  ) -> Vectors:
    """The vector, or of a pair the vector of each text."""
    return prediction

  def evaluate(
    self, records: Records, predictions: Sequence[Vectors]
  ) -> Metrics:
    """How well cosines say what is similar.

    Returns:
      With labels, the correlations `spearman` and `pearson` of cosines and
      labels. Without, how well pairs are found by their texts among all
      different pairs of these records: `metrics.retrieval`.

    Raises:
      UserError: a record has no pair or no label, or there are no records.
    """
    for record in records:
      fields.text(record, "pair")
    if _have_labels(records):
      labels = np.array([self.gold(record) for record in records])
      cosines = _cosines(predictions)[:, None]
      found = regression.evaluate(labels[:, None], cosines, ["cosine"])
      return {name: found[name] for name in ("spearman", "pearson")}
    documents, relevant = _documents(records)
    return retrieval.evaluate(
      np.array([vectors[0] for vectors in predictions]),
      np.array([predictions[row][1] for row in documents.values()]),
      relevant,
    )

  def baselines(self, records: Records) -> Metrics:
    """Of ranking pairs by chance; correlations would be 0."""
    if _have_labels(records):
      return {}
    count = max(len(_documents(records)[0]), 1)
    return {
      f"recall_at_{depth}_chance_baseline": min(depth / count, 1.0)
      for depth in _DEPTHS
    }

  def view(self, records: Records, predictions: Sequence[Vectors]) -> View:
    """The pairs whose cosine is most out of place.

    With labels, these are pairs that rank differently by cosine and by label;
    without, pairs whose text is nearer to that of another.
    """
    if _have_labels(records):
      labels = [self.gold(record) for record in records]
      mistakes = _misplaced(_cosines(predictions), labels, records)
    else:
      mistakes = _mistaken(predictions, records)
    return View(mistakes=view.worst(mistakes))

  def summary(
    self, record: Record, prediction: Vectors, tokenizer: Vocabulary
  ) -> dict[str, float]:
    return {"cosine": float(_cosines([prediction])[0])}


def _pool(
  hidden: Float[Array, "*rows length hidden"],
  sequence_ids: Int[Array, "*rows length"],
  skipped: Int[Array, " batch"] | None = None,
  *,
  modes: tuple[str, ...],
  normalize: bool,
) -> Float[Array, "*rows width"]:
  vectors = pooling.pool_tokens(hidden, sequence_ids, modes, skipped)
  return pooling.unit(vectors) if normalize else vectors


@functools.cache
def _compiled_pool() -> Callable[..., Array]:
  """The same for arrays of JAX's, on their device."""
  import jax

  return jax.jit(_pool, static_argnames=("modes", "normalize"))


def _have_labels(records: Records) -> bool:
  return any(record.get("label") is not None for record in records)


def _unit(
  predictions: Sequence[Vectors],
) -> Float[np.ndarray, "pairs 2 width"]:
  """The vectors of text and pair, scaled to length 1."""
  # In float64, so that noise makes no ranks.
  vectors = np.array([pair[:2] for pair in predictions], np.float64)
  norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
  return vectors / np.maximum(norms, 1e-12)


def _cosines(predictions: Sequence[Vectors]) -> Float[np.ndarray, " pairs"]:
  return _unit(predictions).prod(1).sum(-1)


def _documents(records: Records) -> tuple[dict[str, int], list[set[int]]]:
  """The distinct pairs, and the places of those that each text has.

  A distinct pair comes with the index of the first record that has it.
  """
  first: dict[str, int] = {}
  for row, record in enumerate(records):
    first.setdefault(record["pair"], row)
  places = {pair: place for place, pair in enumerate(first)}
  own: dict[str, set[int]] = {}
  for record in records:
    own.setdefault(record["text"], set()).add(places[record["pair"]])
  return first, [own[record["text"]] for record in records]


def _misplaced(
  cosines: Float[np.ndarray, " pairs"],
  labels: Sequence[float],
  records: Records,
) -> list[tuple[float, dict[str, Any]]]:
  from scipy import stats  # Slow to import, and only needed here.

  ranks = [stats.rankdata(x) / len(records) for x in (labels, cosines)]
  return [
    (
      abs(of_label - of_cosine),
      {
        **view.texts(record),
        "label": labels[i],
        "cosine": float(cosines[i]),
        "more similar by label than": of_label,
        "by cosine than": of_cosine,
      },
    )
    for i, (record, of_label, of_cosine) in enumerate(zip(records, *ranks))
  ]


def _mistaken(
  predictions: Sequence[Vectors], records: Records
) -> list[tuple[float, dict[str, Any]]]:
  first, relevant = _documents(records)
  documents, vectors = list(first), _unit(predictions)
  candidates = vectors[[*first.values()], 1]
  cosines, mistakes = vectors.prod(1).sum(-1), []
  for start in range(0, len(records), _QUERIES):
    near = vectors[start : start + _QUERIES, 0] @ candidates.T
    for i, others in enumerate(near, start):
      others[[*relevant[i]]] = -np.inf
      best = int(others.argmax())
      if others[best] > cosines[i]:
        seen = {
          **view.texts(records[i]),
          "cosine": float(cosines[i]),
          "nearer": documents[best],
          "its cosine": float(others[best]),
        }
        mistakes.append((float(others[best] - cosines[i]), seen))
  return mistakes
