"""How likely each token of a text is, given all others."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bert_jax.batch import Batch
from bert_jax.data.sources.labelled import Record
from bert_jax.tasks.targets import numeric
from bert_jax.tasks.targets.masked_tokens import Logits, MaskedTokens
from bert_jax.tasks.targets.target import Records, Vocabulary, json_line


@dataclasses.dataclass(frozen=True)
class Score:
  """The pseudo-log-likelihood of a text.

  Attributes:
    score: the sum of the log-probabilities of the text's tokens, natural
      logarithms. Each is given all other tokens.
    pseudo_perplexity: exp(-score / the number of tokens).
    tokens: those of the text, as the vocabulary has them.
    log_probabilities: of each of these.
  """

  score: float
  pseudo_perplexity: float
  tokens: tuple[str, ...]
  log_probabilities: tuple[float, ...]


class Likelihoods(NamedTuple):
  """The tokens of a text and their log-probabilities.

  Attributes:
    ids: of the tokens, in their order.
    log_probabilities: of these.
  """

  ids: Int[np.ndarray, " tokens"]
  log_probabilities: Float[np.ndarray, " tokens"]


@dataclasses.dataclass(frozen=True)
class TokenLikelihood(MaskedTokens):
  """The log-probability of the token at the mask of each row.

  It needs `MaskedCopies` as inputs. The sum over a text is its
  pseudo-log-likelihood (Salazar et al. 2020, "Masked Language Model Scoring",
  arXiv:1910.14659). Predictions are `Likelihoods`, answers a `Score`.
  """

  # A folder for Transformers is of the task `masked_lm`, which has the head.
  ARCHITECTURE: ClassVar = ""

  def predict(
    self,
    outputs: Logits,
    batch: Batch,
    records: Records,
    tokenizer: Vocabulary,
  ) -> list[Likelihoods]:
    ids = batch.targets["masked_lm/ids"]
    if isinstance(outputs, np.ndarray):
      found = _numpy_log_probabilities(outputs, ids)
    else:
      # On JAX's device, since the logits are too many to be moved.
      found = np.asarray(_jax_log_probabilities()(outputs, ids))
    return [Likelihoods(ids[row], found[row]) for row in range(len(records))]

  def merge(
    self, record: Record, predictions: Sequence[Likelihoods]
  ) -> Likelihoods:
    return Likelihoods(*map(np.concatenate, zip(*predictions)))

  def decode(
    self, record: Record, prediction: Likelihoods, tokenizer: Vocabulary
  ) -> Score:
    values = prediction.log_probabilities.tolist()
    total = sum(values)
    return Score(
      total,
      perplexity(total, len(values)),
      tuple(map(tokenizer.token, prediction.ids.tolist())),
      tuple(values),
    )

  def lines(self, answer: Score) -> list[str]:
    return [json_line(answer)]


def perplexity(score: float, count: int) -> float:
  """The perplexity per token or word; infinite where it is too large.

  >>> perplexity(-6.9315, 10)
  2.0000...
  """
  with np.errstate(over="ignore"):
    return float(np.exp(-score / max(count, 1)))


def _numpy_log_probabilities(
  logits: Logits, ids: Int[np.ndarray, "batch predictions"]
) -> Float[np.ndarray, "batch predictions"]:
  chosen = np.take_along_axis(logits, ids[..., None], axis=-1)[..., 0]
  return chosen - numeric.logsumexp(logits)


@functools.cache
def _jax_log_probabilities() -> Callable[[Any, Any], Any]:
  import jax
  import jax.numpy as jnp

  @jax.jit
  def apply(logits, ids):
    chosen = jnp.take_along_axis(logits, ids[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)

  return apply
