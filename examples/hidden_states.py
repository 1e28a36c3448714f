"""Hidden states and attention weights of an encoder.

`python -m examples.hidden_states MODEL "A text."` prints, for each layer, how
much its output differs from that of the layer before, and the token that
`[CLS]` attends to most.
"""

import sys

import numpy as np

import bert_jax


def main(where: str, text: str) -> np.ndarray:
  """Returns the attention weights of `[CLS]`, [layers, heads, tokens]."""
  model = bert_jax.load(where)
  found = model.encode(text, hidden_states=True, attentions=True)
  count = int(found.attention_mask[0].sum())
  tokens = [model.tokenizer.token(int(id)) for id in found.token_ids[0, :count]]
  # [layers, heads, tokens]: the queries of the first token only.
  weights = np.stack([layer[0, :, 0, :count] for layer in found.attentions])
  states = [state[0, :count] for state in found.hidden_states]
  for number, layer in enumerate(weights.mean(axis=1), 1):
    change = np.linalg.norm(states[number] - states[number - 1], axis=-1)
    print(
      f"layer {number}: mean change {change.mean():.3f},"
      f" [CLS] attends most to {tokens[layer.argmax()]!r}"
    )
  return weights


if __name__ == "__main__":
  main(*sys.argv[1:])
