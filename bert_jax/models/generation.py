"""How text is written: the search or the sampling; without JAX."""

import dataclasses

from bert_jax.settings import UserError


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
  """The options of writing text, by the names of Transformers.

  Without beams and sampling, each token is the most probable one.

  Attributes:
    max_new_tokens: the longest text in tokens, the end included; 0 is the room
      that the task leaves.
    min_new_tokens: the least tokens before the end.
    num_beams: hypotheses of beam search that are kept at each token; 1 does
      not search.
    length_penalty: of beam search, the exponent alpha of GNMT (Wu et al. 2016,
      arXiv:1609.08144): log-probabilities of n tokens, the end included, are
      divided by ((5 + n) / 6)**alpha. The greater, the longer the texts; at 0
      many end too early.
    no_repeat_ngram_size: above 0, no n-gram of this size occurs twice in a
      text.
    do_sample: whether tokens are drawn at random. What is drawn depends on the
      seed and the source alone, not on the batch.
    temperature: of sampling; logits are divided by it. Below 1, probable
      tokens are drawn more often.
    top_k: above 0, only the `top_k` most probable tokens are drawn.
    top_p: only the most probable tokens, whose probabilities together just
      reach this, are drawn (Holtzman et al. 2019, arXiv:1904.09751).
    seed: of sampling.
    num_return_sequences: texts for each source: the best of beam search, or so
      many samples.
  """

  max_new_tokens: int = 0
  min_new_tokens: int = 0
  num_beams: int = 1
  length_penalty: float = 1.0
  no_repeat_ngram_size: int = 0
  do_sample: bool = False
  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  seed: int = 0
  num_return_sequences: int = 1

  def __post_init__(self):
    for name, least in (
      ("max_new_tokens", 0),
      ("min_new_tokens", 0),
      ("num_beams", 1),
      ("no_repeat_ngram_size", 0),
      ("top_k", 0),
      ("seed", 0),
      ("num_return_sequences", 1),
    ):
      value = getattr(self, name)
      if type(value) is not int or value < least:
        raise UserError(
          f"{name}: expected a whole number of at least {least}, got {value!r}"
        )
    for name, is_right, expected in (
      ("temperature", self.temperature > 0, "a number above 0"),
      ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
      ("length_penalty", abs(self.length_penalty) < 100, "-100 to 100"),
    ):
      if not is_right:
        raise UserError(
          f"{name}: expected {expected}, got {getattr(self, name)!r}"
        )
    if self.seed >= 1 << 32:
      raise UserError(f"seed: expected less than 2**32, got {self.seed}")
    if self.do_sample and self.num_beams > 1:
      raise UserError("num_beams: beam search goes without do_sample")
    drawn = ("temperature", "top_k", "top_p")
    changed = [x for x in drawn if getattr(self, x) != getattr(type(self), x)]
    if changed and not self.do_sample:
      raise UserError(f"{changed[0]}: goes with do_sample")
    most = self.num_return_sequences if self.do_sample else self.num_beams
    if self.num_return_sequences > most:
      raise UserError(
        f"num_return_sequences: {self.num_return_sequences} texts need as many"
        f" beams, got num_beams {self.num_beams}; or use do_sample"
      )
    if 0 < self.max_new_tokens <= self.min_new_tokens:
      raise UserError(
        f"min_new_tokens: {self.min_new_tokens} tokens and the end do not fit"
        f" into max_new_tokens {self.max_new_tokens}"
      )

  def check_vocabulary(self, size: int) -> None:
    """Refuses more beams than a vocabulary has tokens for.

    Raises:
      UserError: the vocabulary is smaller than twice the beams.
    """
    if 2 * self.num_beams > size:
      raise UserError(
        f"num_beams: {self.num_beams} beams need a vocabulary of at least"
        f" {2 * self.num_beams} tokens, got {size}"
      )
