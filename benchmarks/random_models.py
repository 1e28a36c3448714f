"""Models with random weights and the sizes of published ones."""

from collections.abc import Sequence
from typing import Any

_TINY = {
  "num_layers": 2,
  "num_heads": 2,
  "intermediate_size": 64,
  "hidden_size": 32,
}


def minilm(task: Any, tokens: Sequence[str] = (), tiny: bool = False) -> Any:
  """A model with the sizes of MiniLM (6 layers of 384).

  Its weights are twice the usual initial ones, under which outputs vary.

  Args:
    task: not bound to an encoder.
    tokens: the vocabulary, special tokens first; others that no text has are
      added.
    tiny: whether layers have the smallest sizes, to test a benchmark itself.
  """
  import jax

  from bert_jax.model import Model
  from bert_jax.models.config import encoder_config
  from bert_jax.text.wordpiece import SPECIAL_TOKENS, WordPiece

  config = encoder_config(
    {"preset": "minilm_l6_h384", **(_TINY if tiny else {})}
  )
  tokens = list(tokens or SPECIAL_TOKENS)
  known = set(tokens)
  unused = (f"w{number}" for number in range(config.vocab_size))
  tokens += [token for token in unused if token not in known]
  bound = task.bind(config, WordPiece(tokens[: config.vocab_size]))
  params = jax.jit(bound.init_params)(jax.random.key(0))
  return Model(bound, jax.tree.map(lambda x: 2 * x, params))
