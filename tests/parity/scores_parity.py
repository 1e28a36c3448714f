"""Scores of texts, beside a forward pass of Transformers for each token."""

import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np
import torch
import transformers

import bert_jax
from bert_jax.tasks.inputs.masked_copies import PLL_METRICS, WITHIN_WORD_L2R
from tests.parity.minilm_parity import model_folder, real_sentences

_COUNT = 40


def checks() -> Iterator[tuple[str, float, float]]:
  texts = real_sentences()[:_COUNT]
  tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder())
  config = transformers.BertConfig(
    vocab_size=len(tokenizer),
    hidden_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=128,
  )
  torch.manual_seed(0)
  peer = transformers.BertForMaskedLM(config).eval()
  with torch.no_grad():
    for parameter in peer.parameters():
      parameter += 0.1 * torch.randn_like(parameter)
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    peer.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = bert_jax.load(folder)
    for pll_metric in PLL_METRICS:
      found = model.score(texts, pll_metric=pll_metric)
      expected = [
        _token_scores(peer, tokenizer, text, pll_metric) for text in texts
      ]
      worst = max(
        float(np.abs(np.subtract(x.log_probabilities, y)).max())
        for x, y in zip(found, expected)
      )
      yield f"scores, {pll_metric}, of a token", worst, 1e-4
      worst = max(
        abs(x.score - sum(y)) / len(y) for x, y in zip(found, expected)
      )
      yield f"scores, {pll_metric}, mean of a text", worst, 1e-5


def _token_scores(
  peer: torch.nn.Module,
  tokenizer: transformers.PreTrainedTokenizerBase,
  text: str,
  pll_metric: str,
) -> list[float]:
  """The log-probability of each token, one at a time."""
  encoded = tokenizer(text, return_tensors="pt")
  ids, words = encoded["input_ids"], encoded.word_ids()
  found = []
  for place in range(1, ids.shape[1] - 1):
    masked = ids.clone()
    masked[0, place] = tokenizer.mask_token_id
    for later in range(place + 1, ids.shape[1] - 1):
      if pll_metric == WITHIN_WORD_L2R and words[later] == words[place]:
        masked[0, later] = tokenizer.mask_token_id
    with torch.no_grad():
      logits = peer(masked, encoded["attention_mask"]).logits[0, place]
    found.append(float(logits.log_softmax(-1)[ids[0, place]]))
  return found
