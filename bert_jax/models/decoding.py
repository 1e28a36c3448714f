"""Writes text with an encoder: greedily, by beam search, or by sampling.

The source is encoded once. Its keys and values, and those of what was written,
are kept, so that each step computes one token (two with the objective
`masked`).
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Integer, Key

from bert_jax.models.attention import Keys, Tokens
from bert_jax.models.config import EncoderConfig
from bert_jax.models.encoder import Encoder
from bert_jax.models.generation import GenerationConfig
from bert_jax.models.heads import MaskedLanguageHead
from bert_jax.text.tokenizer import SpecialIds
from bert_jax.types import Batch, Parameters

# The score of what is impossible; finite, so that no difference is NaN.
_NEVER = -1e30


class Generated(NamedTuple):
  """The texts that are written from each row, the best first.

  Attributes:
    ids: their tokens, without the one that ends a text; then padding.
    lengths: the number of these tokens.
    scores: the log of each text's probability in nats, the end included; of
      beam search over the length penalty.
  """

  ids: Int[Array, "rows answers length"]
  lengths: Int[Array, "rows answers"]
  scores: Float[Array, "rows answers"]


class Source(NamedTuple):
  """What is written from, the same in all steps.

  Attributes:
    keys: the keys and values of its tokens, for each layer.
    first: the position of the first token that is written.
    stage: the last stage of its tokens.
    random: the keys of sampling.
    decoder: the transposed weights of the head's product with the vocabulary.
      XLA on CPUs would transpose them for each token.
  """

  keys: tuple[Keys, ...]
  first: Int[Array, "rows"]
  stage: Int[Array, "rows"]
  random: Key[Array, "rows"]
  decoder: Float[Array, "width vocabulary"]


class State(NamedTuple):
  """What is written so far: `count` hypotheses of each row, one after another.

  Attributes:
    index: the number of tokens.
    ids: the tokens; padding after the end.
    scores: the logs of the hypotheses' probabilities.
    is_done: whether a hypothesis has ended; of beam search, whether no better
      text can be found for its row.
    keys: the keys and values of the tokens but for the last, for each layer,
      [hypotheses, heads, depth, length], as XLA's products on CPUs take them.
    found: the best texts that have ended, of beam search; else None.
  """

  index: Int[Array, ""]
  ids: Int[Array, "hypotheses length"]
  scores: Float[Array, "hypotheses"]
  is_done: Bool[Array, "..."]
  keys: tuple[tuple[Array, Array], ...]
  found: Generated | None


class Decoder:
  """Writes text from batches, as functions to be jitted.

  >>> decoder = Decoder(config, tokenizer.special, GenerationConfig(...), 64)
  >>> jax.jit(decoder)(params, batch).ids.shape
  (32, 1, 64)
  """

  def __init__(
    self,
    config: EncoderConfig,
    special: SpecialIds,
    generation: GenerationConfig,
    length: int,
    objective: str = "causal",
    positions: str = "continued",
    segment: int = 1,
    head: str = "masked_lm",
    vocabulary: int | None = None,
  ):
    """Computes nothing.

    Args:
      config: the encoder's.
      special: the ids of special tokens, of which only `sep` is written, as the
        end of a text.
      generation: how to write; `length` replaces its `max_new_tokens`.
      length: the longest text in tokens, the end included.
      objective: `causal` or `masked`; see `tasks.targets.next_tokens`.
      positions: `continued` or `restarted`; see there.
      segment: the segment id of what is written.
      head: the name of the parameters of the `MaskedLanguageHead`.
      vocabulary: only ids below are written: the tokens of the tokenizer, which
        may be fewer than those of the config; None for all of the config.

    Raises:
      UserError: the vocabulary is too small for the beams.
    """
    vocabulary = min(vocabulary or config.vocab_size, config.vocab_size)
    generation.check_vocabulary(vocabulary)
    self._config, self._generation = config, generation
    self._special, self._length = special, length
    # The keys of the last token are never needed.
    self._kept = max(length - 1, 1)
    self._is_masked, self._segment = objective == "masked", segment
    self._restarts = positions == "restarted"
    self._head_name = head
    self._encoder = Encoder(config)
    self._head = MaskedLanguageHead(config)
    self._searches = generation.num_beams > 1
    self._count = max(generation.num_beams, generation.num_return_sequences)
    allowed = np.arange(config.vocab_rows) < vocabulary
    for id in (special.pad, special.unknown, special.cls, special.mask):
      if id is not None:
        allowed[id] = False
    allowed[special.sep] = True
    self._allowed = allowed

  def __call__(
    self, params: Parameters, batch: Batch, seed: Integer[ArrayLike, ""] = 0
  ) -> Generated:
    """Writes until all texts have ended.

    Args:
      params: of the encoder and the head.
      batch: sources; their stages are not negative. Written tokens follow the
        last stage of their source. A row without tokens is not waited for.
      seed: of sampling, in place of that of the options, so that the same
        program draws with any.
    """
    source, first = self.start(params, batch, seed)

    def is_going_on(state: State) -> Array:
      return (state.index < self._length) & ~state.is_done.all()

    last = jax.lax.while_loop(
      is_going_on, lambda state: self.step(params, source, state), first
    )
    return self.finish(last)

  def start(
    self, params: Parameters, batch: Batch, seed: Integer[ArrayLike, ""] = 0
  ) -> tuple[Source, State]:
    """Reads the sources, and writes the first token."""
    is_token = batch.sequence_ids > 0
    stages = batch.stage_ids
    stage = jnp.zeros(len(is_token), jnp.int32)
    if stages is not None:
      stage = jnp.where(is_token, stages, 0).max(1)
    first = jnp.where(is_token, batch.position_ids + 1, 0).max(1)
    if self._restarts:
      first = jnp.ones_like(first)
    # The first token is predicted where the last of the source is.
    last = (batch.position_ids * is_token).argmax(1)
    if self._is_masked:
      last = jnp.full_like(last, is_token.shape[1])
      mask = self._tokens(self._special.mask, first, -stage - 1)
      if stages is None:
        batch = dataclasses.replace(batch, stage_ids=0 * batch.token_ids)
      batch = dataclasses.replace(batch, targets={}, task="")
      batch = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), batch, mask)
    outputs = self._encoder.apply(
      {"params": params["encoder"]}, batch, keys=True
    )
    hidden = jnp.take_along_axis(
      outputs.last_hidden_state, last[:, None, None], axis=1
    )
    source = Source(
      outputs.keys, first, stage, _keys(batch, seed), self._decoder(params)
    )
    logits = self.logits(params, source, hidden).repeat(self._count, axis=0)
    state = self._initial(~is_token.any(1), outputs.keys)
    return source, self.choose(source, state, logits)

  def step(self, params: Parameters, source: Source, state: State) -> State:
    """Reads the tokens that were written last, and writes the next."""
    count = self._count
    position = source.first.repeat(count) + state.index - 1
    stage = source.stage.repeat(count) + state.index
    ids = jnp.take(state.ids, state.index - 1, axis=1)
    batch = self._tokens(ids, position, stage)
    if self._is_masked:
      mask = self._tokens(self._special.mask, position + 1, -stage - 1)
      batch = jax.tree.map(lambda *x: jnp.concatenate(x, 1), batch, mask)
    tokens = self._written(source, state)
    past = [
      (of_source, Keys(*(x.transpose(0, 3, 1, 2) for x in written), tokens))
      for of_source, written in zip(source.keys, state.keys)
    ]
    outputs = self._encoder.apply(
      {"params": params["encoder"]}, batch, keys=True, past=past
    )
    # Masked copies are seen by no other token, so they are not kept.
    keys = tuple(
      tuple(
        jax.lax.dynamic_update_slice_in_dim(
          kept, new[:, 0, :, :, None], state.index - 1, axis=3
        )
        for kept, new in zip(written, (own.key, own.value))
      )
      for written, own in zip(state.keys, outputs.keys)
    )
    hidden = outputs.last_hidden_state[:, -1:]
    logits = self.logits(params, source, hidden)
    return self.choose(source, state._replace(keys=keys), logits)

  def finish(self, state: State) -> Generated:
    """The texts of the last state."""
    wanted = self._generation.num_return_sequences
    if state.found is not None:
      found = state.found
    else:
      rows = len(state.ids) // self._count
      is_text = state.ids != self._special.pad
      ids = jnp.where(
        state.ids == self._special.sep, self._special.pad, state.ids
      )
      lengths = (is_text & (state.ids != self._special.sep)).sum(1)
      found = Generated(
        ids.reshape(rows, self._count, -1),
        lengths.reshape(rows, -1),
        state.scores.reshape(rows, -1),
      )
      # Samples are in no order.
      order = jnp.argsort(-found.scores, axis=1, stable=True)
      found = jax.tree.map(lambda x: _take_each(x, order), found)
    return jax.tree.map(lambda x: x[:, :wanted], found)

  # The encoder and the head.

  def _tokens(self, ids: Array | int, position: Array, stage: Array) -> Batch:
    """A batch of one token in each row."""
    shape = (len(position), 1)
    return Batch(
      token_ids=jnp.broadcast_to(jnp.reshape(ids, (-1, 1)), shape),
      segment_ids=jnp.full(shape, self._segment, jnp.int32),
      position_ids=position[:, None],
      sequence_ids=jnp.ones(shape, jnp.int32),
      stage_ids=stage[:, None],
    )

  def _written(self, source: Source, state: State) -> Tokens:
    """The tokens whose keys the state has, and unused places."""
    place = jnp.arange(self._kept)[None]
    is_used = (place < state.index - 1).astype(jnp.int32)
    return Tokens(
      jnp.broadcast_to(is_used, (len(state.ids), self._kept)),
      source.stage.repeat(self._count)[:, None] + 1 + place,
      source.first.repeat(self._count)[:, None] + place,
    )

  def _decoder(self, params: Parameters) -> Float[Array, "width vocabulary"]:
    if self._config.tied_decoder:
      decoder = params["encoder"]["embeddings"]["word"]["embedding"]
    else:
      decoder = params[self._head_name]["decoder"]
    # Else XLA makes one product of the transpose and that of each step.
    return jax.lax.optimization_barrier(decoder.T)

  def logits(
    self,
    params: Parameters,
    source: Source,
    hidden: Float[Array, "rows 1 hidden"],
  ) -> Float[Array, "rows vocabulary"]:
    """The head's logits, of one token in each row."""
    return self._head.apply(
      {"params": params[self._head_name]},
      hidden[:, 0],
      source.decoder,
      transposed=True,
      method="logits",
    )

  # The choice of tokens.

  def _initial(self, is_done: Array, keys: tuple[Keys, ...]) -> State:
    rows, count, length = len(is_done), self._count, self._length
    ids = jnp.full((rows * count, length), self._special.pad, jnp.int32)
    scores = jnp.zeros((rows, count))
    found = None
    if self._searches:
      # All hypotheses are the same at first.
      scores = scores.at[:, 1:].set(_NEVER)
      found = Generated(
        ids.reshape(rows, count, length),
        jnp.zeros((rows, count), jnp.int32),
        jnp.full((rows, count), _NEVER),
      )
    else:
      is_done = is_done.repeat(count)

    def place_for(x: Array) -> Array:
      return jnp.zeros((rows * count, *x.shape[2:], self._kept), x.dtype)

    return State(
      jnp.zeros((), jnp.int32),
      ids,
      scores.reshape(-1),
      is_done,
      tuple((place_for(own.key), place_for(own.value)) for own in keys),
      found,
    )

  def choose(
    self,
    source: Source,
    state: State,
    logits: Float[Array, "hypotheses vocabulary"],
  ) -> State:
    """Writes the next token of each hypothesis, by the options."""
    total = jax.nn.logsumexp(logits, axis=-1)
    logits = jnp.where(self._is_allowed(state), logits, _NEVER)
    if self._searches:
      return self._search(state, logits, total)
    if self._generation.do_sample:
      ids = self._sample(source, state, logits)
    else:
      ids = logits.argmax(-1).astype(jnp.int32)
    chosen = jnp.take_along_axis(logits, ids[:, None], axis=1)[:, 0]
    scores = state.scores + jnp.where(state.is_done, 0, chosen - total)
    ids = jnp.where(state.is_done, self._special.pad, ids)
    return state._replace(
      index=state.index + 1,
      ids=_put(state.ids, ids, state.index),
      scores=scores,
      is_done=state.is_done | (ids == self._special.sep),
    )

  def _is_allowed(self, state: State) -> Bool[Array, "#hypotheses vocabulary"]:
    options, end = self._generation, self._special.sep
    allowed = jnp.asarray(self._allowed)[None]
    if options.min_new_tokens:
      is_end = jnp.arange(self._allowed.size) == end
      allowed &= ~is_end | (state.index >= options.min_new_tokens)
    size = options.no_repeat_ngram_size
    if 0 < size <= self._length:
      allowed &= ~self._repeats(state, size)
    return allowed

  def _repeats(
    self, state: State, size: int
  ) -> Bool[Array, "hypotheses vocabulary"]:
    """Whether a token would end an n-gram that is there already."""
    ids, index = state.ids, state.index
    begin = jnp.maximum(index - size + 1, 0)
    last = jax.lax.dynamic_slice_in_dim(ids, begin, size - 1, axis=1)
    windows = ids.shape[1] - size + 1
    is_same = jnp.ones((len(ids), windows), bool)
    for offset in range(size - 1):
      part = ids[:, offset : offset + windows]
      is_same &= part == last[:, offset, None]
    is_same &= jnp.arange(windows) + size <= index
    following = ids[:, size - 1 :]
    found = jnp.zeros((len(ids), self._allowed.size), bool)
    row = jnp.arange(len(ids))[:, None]
    return found.at[row, following].max(is_same)

  def _sample(
    self, source: Source, state: State, logits: Array
  ) -> Int[Array, "hypotheses"]:
    options = self._generation
    values, ids = logits / options.temperature, None
    if options.top_k:
      values, ids = jax.lax.top_k(values, min(options.top_k, logits.shape[1]))
    if options.top_p < 1:
      values = _nucleus(values, options.top_p)

    def draw(key: Array, number: Array, values: Array) -> Array:
      for part in (number, state.index):
        key = jax.random.fold_in(key, part)
      return jax.random.categorical(key, values)

    number = jnp.tile(jnp.arange(self._count), len(source.random))
    drawn = jax.vmap(draw)(source.random.repeat(self._count), number, values)
    if ids is not None:
      drawn = jnp.take_along_axis(ids, drawn[:, None], axis=1)[:, 0]
    return drawn.astype(jnp.int32)

  def _search(self, state: State, logits: Array, total: Array) -> State:
    """One step of beam search, as in Transformers 4."""
    count, end = self._count, self._special.sep
    rows, options = len(state.is_done), self._generation
    values, ids = jax.lax.top_k(logits, 2 * count)
    values += (state.scores - total)[:, None]
    scores, place = jax.lax.top_k(values.reshape(rows, -1), 2 * count)
    ids = _take_each(ids.reshape(rows, -1), place).astype(jnp.int32)
    parent = place // (2 * count) + count * jnp.arange(rows)[:, None]
    texts = _put_last(state.ids[parent], ids, state.index)

    # Of those that end, the ones that are among the best.
    new = state.index + 1
    is_last = new == self._length
    has_ended = (ids == end) | is_last
    counts = jnp.arange(2 * count) < count
    ended = jnp.where(
      has_ended & counts & ~state.is_done[:, None] & (scores > _NEVER / 2),
      scores / _penalty(new, options.length_penalty),
      _NEVER,
    )
    ended = Generated(
      jnp.where(texts == end, self._special.pad, texts),
      state.index + (ids != end),
      ended,
    )
    both = jax.tree.map(
      lambda *x: jnp.concatenate(x, axis=1), state.found, ended
    )
    _, best = jax.lax.top_k(both.scores, count)
    found = jax.tree.map(lambda x: _take_each(x, best), both)

    going_on = jnp.where(has_ended, _NEVER, scores)
    scores, chosen = jax.lax.top_k(going_on, count)
    parent = _take_each(parent, chosen).reshape(-1)
    # The longest text has the largest penalty, or else the next one.
    least = jnp.maximum(
      _penalty(self._length, options.length_penalty),
      _penalty(new, options.length_penalty),
    )
    is_done = found.scores[:, -1] >= scores[:, 0] / least
    return State(
      new,
      _take_each(texts, chosen).reshape(-1, self._length),
      scores.reshape(-1),
      state.is_done | is_done,
      jax.tree.map(lambda x: x[parent], state.keys),
      found,
    )


def _nucleus(
  logits: Float[Array, "rows tokens"], top_p: float
) -> Float[Array, "rows tokens"]:
  """Keeps the fewest tokens whose probabilities add up to `top_p`.

  The least probability that is kept is found by bisection, which takes a fifth
  of the time of sorting 16,000 tokens on a CPU. Tokens of equal probability
  are kept together. From Holtzman et al. (2019, arXiv:1904.09751).
  """
  probabilities = jax.nn.softmax(logits, axis=-1)

  def halve(_, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
    low, high = bounds
    middle = (low + high) / 2
    above = jnp.where(probabilities > middle, probabilities, 0)
    is_enough = above.sum(-1, keepdims=True) >= top_p
    return jnp.where(is_enough, middle, low), jnp.where(is_enough, high, middle)

  high = probabilities.max(-1, keepdims=True)
  low, _ = jax.lax.fori_loop(0, 32, halve, (jnp.zeros_like(high), high))
  return jnp.where(probabilities > low, logits, _NEVER)


def _keys(batch: Batch, seed: Integer[ArrayLike, ""]) -> Key[Array, "rows"]:
  """A random key for each row, of its tokens alone, whatever its padding."""
  mixed = batch.token_ids.astype(jnp.uint32) * jnp.uint32(0x9E3779B1)
  mixed = (mixed ^ (mixed >> 15)) + batch.position_ids.astype(jnp.uint32)
  mixed *= jnp.uint32(0x85EBCA77)
  mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE3D)
  is_source = batch.sequence_ids > 0
  if batch.stage_ids is not None:
    is_source &= batch.stage_ids >= 0
  hashes = jnp.where(is_source, mixed, 0).sum(1, dtype=jnp.uint32)
  key = jax.random.key(seed)
  return jax.vmap(lambda x: jax.random.fold_in(key, x))(hashes)


def _penalty(length: Any, alpha: float) -> Any:
  """The length penalty of GNMT."""
  return ((5 + length) / 6) ** alpha


def _put(ids: Array, new: Array, index: Array) -> Array:
  """Writes a column."""
  return jax.lax.dynamic_update_slice_in_dim(ids, new[:, None], index, axis=1)


def _put_last(texts: Array, new: Array, index: Array) -> Array:
  return jax.lax.dynamic_update_slice_in_dim(
    texts, new[..., None], index, axis=2
  )


def _take_each(x: Array, place: Array) -> Array:
  """Of each row, the items at these places."""
  return jnp.take_along_axis(
    x, place.reshape(*place.shape, *[1] * (x.ndim - 2)), axis=1
  )
