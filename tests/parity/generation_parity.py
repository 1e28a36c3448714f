"""Text written with the weights of Transformers' causal BERT.

`BertLMHeadModel` with `is_decoder` is the same encoder, whose tokens attend to
themselves and to earlier tokens, as tokens do here whose stages are their
places. Here all prompts are in one batch; the peer gets one at a time, since it
takes positions from places and so has none for prompts of unequal lengths.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import torch
import transformers
from transformers.generation import logits_process

import bert_jax
from bert_jax.model import Model
from bert_jax.models.decoding import Decoder, Generated
from bert_jax.models.generation import GenerationConfig
from bert_jax.text.tokenizer import SpecialIds
from bert_jax.types import Batch
from tests.parity import peers

_SPECIAL = SpecialIds(pad=0, unknown=1, cls=2, sep=3, mask=4)
_PROMPTS, _LONGEST, _LENGTH = 8, 11, 24
# Transformers divides by another power of the length.
_BEAMS = {"num_beams": 4, "num_return_sequences": 4, "length_penalty": 0.0}
_OPTIONS: dict[str, dict[str, Any]] = {
  "greedy": {},
  "greedy, least length": {"min_new_tokens": 9},
  "greedy, no bigram twice": {"min_new_tokens": 9, "no_repeat_ngram_size": 2},
  "4 beams": _BEAMS,
  "4 beams, least length": {**_BEAMS, "min_new_tokens": 9},
  "4 beams, no bigram twice": {
    **_BEAMS,
    "min_new_tokens": 9,
    "no_repeat_ngram_size": 2,
  },
}


def checks() -> Iterator[tuple[str, float, float]]:
  made = peers.make_peer("bert", "masked_lm", {})
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    made.save_pretrained(folder)
    peer = transformers.BertLMHeadModel.from_pretrained(
      folder, is_decoder=True, attn_implementation="eager"
    ).eval()
    model = bert_jax.load(folder)
  for what, worst, bound in _compare(peer, model):
    yield f"generation: {what}", worst, bound


def _compare(
  peer: torch.nn.Module, model: Model
) -> Iterator[tuple[str, float, float]]:
  rng = np.random.default_rng(1)
  prompts = [
    rng.integers(5, peers.VOCABULARY, rng.integers(2, _LONGEST + 1)).tolist()
    for _ in range(_PROMPTS)
  ]
  batch = _batch(prompts)
  yield "logits", _logits_differ(peer, model, prompts, batch), 1e-5
  for name, options in _OPTIONS.items():
    generation = GenerationConfig(max_new_tokens=_LENGTH, **options)
    decoder = Decoder(model.config, _SPECIAL, generation, _LENGTH, segment=0)
    found = jax.tree.map(np.asarray, jax.jit(decoder)(model.params, batch))
    texts = scores = 0.0
    ended = 0
    for row, prompt in enumerate(prompts):
      expected = _written(peer, prompt, options)
      texts += sum(
        ours != theirs
        for ours, (theirs, _) in zip(_texts(found, row), expected, strict=True)
      )
      for ours, (theirs, score) in zip(found.scores[row], expected):
        scores = max(scores, abs(float(ours) - score))
        ended += len(theirs) < _LENGTH
    yield f"{name}, texts differ ({ended} ended)", texts, 0
    yield f"{name}, scores", scores, 1e-4


def _batch(prompts: list[list[int]]) -> Batch:
  """Rows whose tokens have their places as stages."""
  ids = np.zeros((len(prompts), _LONGEST), np.int32)
  for row, prompt in zip(ids, prompts):
    row[: len(prompt)] = prompt
  batch = Batch.from_ids(ids, ids > 0)
  return dataclasses.replace(batch, stage_ids=batch.position_ids)


def _logits_differ(
  peer: torch.nn.Module, model: Model, prompts: list[list[int]], batch: Batch
) -> float:
  places = np.broadcast_to(np.arange(_LONGEST), batch.token_ids.shape)
  batch.targets["masked_lm/positions"] = places
  outputs = model.task.module.apply({"params": model.params}, batch)
  batch.targets.clear()
  worst = 0.0
  for row, prompt in enumerate(prompts):
    with torch.inference_mode():
      expected = peer(torch.tensor([prompt])).logits[0].numpy()
    ours = np.asarray(
      outputs["masked_lm"][row, : len(prompt), : len(expected[0])]
    )
    worst = max(worst, float(np.abs(ours - expected).max()))
  return worst


def _texts(found: Generated, row: int) -> list[list[int]]:
  return [
    ids[:length].tolist()
    for ids, length in zip(found.ids[row], found.lengths[row])
  ]


def _written(
  peer: torch.nn.Module, prompt: list[int], options: dict[str, Any]
) -> list[tuple[list[int], float]]:
  """The peer's texts without the end, and their scores, the best first."""
  options = {**options}
  processors = []
  if size := options.pop("no_repeat_ngram_size", 0):
    # The peer counts the n-grams of the prompt as well.
    inner = logits_process.NoRepeatNGramLogitsProcessor(size)
    processors.append(lambda ids, scores: inner(ids[:, len(prompt) :], scores))
  with torch.inference_mode():
    outputs = peer.generate(
      torch.tensor([prompt]),
      attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
      max_new_tokens=_LENGTH,
      do_sample=False,
      eos_token_id=_SPECIAL.sep,
      pad_token_id=_SPECIAL.pad,
      suppress_tokens=[0, 1, 2, 4],
      logits_processor=processors,
      return_dict_in_generate=True,
      output_logits=True,
      output_scores=True,
      **options,
    )
  texts = [
    [id for id in row if id not in (_SPECIAL.pad, _SPECIAL.sep)]
    for row in outputs.sequences[:, len(prompt) :].tolist()
  ]
  if "num_beams" in options:
    return [*zip(texts, outputs.sequences_scores.tolist(), strict=True)]
  steps = torch.stack(outputs.logits, 1)[0].log_softmax(-1)
  chosen = outputs.sequences[0, len(prompt) :]
  return [(texts[0], float(steps.gather(1, chosen[:, None]).sum()))]
