"""The bodies of text-embeddings-inference, and its answers.

Fields and defaults are those of its version 1.9.
"""

from typing import Annotated, Any, Literal

import msgspec

from bert_jax.serving.routes.inputs import Direction, Ids, Inputs, Positive

Texts = Annotated[list[str], msgspec.Meta(min_length=1)]


class Truncated(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
  """How long texts are cut.

  Attributes:
    truncate: whether they are; if not they are refused. By default they are.
    truncation_direction: the end that is cut off.
  """

  truncate: bool | None = None
  truncation_direction: Direction = "Right"


class EmbedAllRequest(Truncated, kw_only=True):
  """Texts whose tokens' vectors are wanted.

  Attributes:
    inputs: a text, a list of them, or token ids.
    prompt_name: the name of a prompt of the model.
  """

  inputs: Inputs
  prompt_name: str | None = None


class EmbedSparseRequest(EmbedAllRequest, kw_only=True):
  """Texts whose sparse vectors are wanted."""


class EmbedRequest(EmbedAllRequest, kw_only=True):
  """Texts whose vectors are wanted.

  Attributes:
    normalize: whether vectors have length 1.
    dimensions: of the vectors, which are cut.
    encoding_format: only `float`.
  """

  normalize: bool | None = True
  dimensions: Positive | None = None
  encoding_format: Literal["float"] | None = None


class ClassifyRequest(Truncated, kw_only=True):
  """Texts, or pairs of texts, to classify.

  Attributes:
    inputs: a text, a pair of two texts, or a list of lists of one or two.
    raw_scores: whether scores are logits.
  """

  inputs: (
    str
    | Annotated[
      list[
        str | Annotated[list[str], msgspec.Meta(min_length=1, max_length=2)]
      ],
      msgspec.Meta(min_length=1),
    ]
  )
  raw_scores: bool = False


class RerankRequest(Truncated, kw_only=True):
  """Texts to order by how well they answer a query.

  Attributes:
    query: the query.
    texts: the texts.
    raw_scores: whether scores are logits and not from 0 to 1.
    return_text: whether the answer has the texts.
  """

  query: str
  texts: Texts
  raw_scores: bool = False
  return_text: bool = False


class SimilarityInput(msgspec.Struct, forbid_unknown_fields=True):
  """A sentence, and those that it is compared with."""

  source_sentence: str
  sentences: Texts


class SimilarityParameters(Truncated, kw_only=True):
  """How sentences are embedded."""

  prompt_name: str | None = None


class SimilarityRequest(msgspec.Struct, forbid_unknown_fields=True):
  """Sentences to compare."""

  inputs: SimilarityInput
  parameters: SimilarityParameters | None = None


class TokenizeRequest(msgspec.Struct, forbid_unknown_fields=True):
  """Texts to tokenize."""

  inputs: str | Texts
  add_special_tokens: bool = True
  prompt_name: str | None = None


class DecodeRequest(msgspec.Struct, forbid_unknown_fields=True):
  """Token ids to join to texts."""

  ids: Annotated[
    list[Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | Ids],
    msgspec.Meta(min_length=1),
  ]
  skip_special_tokens: bool = True


class HubRequest(msgspec.Struct, forbid_unknown_fields=True):
  """What Hugging Face's client sends to the address of a server.

  Attributes:
    inputs: a text or a list of them; for `sentence_similarity` a mapping.
    parameters: of a classification, `top_k`.
    normalize: see `/embed`, as the rest.
  """

  inputs: str | Texts | SimilarityInput
  parameters: dict[str, int | str | bool | None] = {}
  normalize: bool | None = None
  prompt_name: str | None = None
  truncate: bool | None = None
  truncation_direction: Direction = "Right"
  dimensions: Positive | None = None
  encoding_format: Literal["float"] | None = None


class Prediction(msgspec.Struct):
  """A label and its probability, or its logit."""

  score: float
  label: str


class Rank(msgspec.Struct, omit_defaults=True):
  """A text's place among those of the request, and its score."""

  index: int
  score: float
  text: str | None = None


class SparseValue(msgspec.Struct):
  """An entry of a sparse vector: the id of a token, and its weight."""

  index: int
  value: float


class SimpleToken(msgspec.Struct):
  """A token, and the characters that it covers in the text."""

  id: int
  text: str
  special: bool
  start: int | None
  stop: int | None


class Info(msgspec.Struct):
  """The model and the limits of the server."""

  model_id: str
  model_sha: str | None
  model_dtype: str
  served_model_name: str
  model_type: dict[str, Any]
  max_concurrent_requests: int
  max_input_length: int
  max_batch_tokens: int
  max_batch_requests: int | None
  max_client_batch_size: int
  auto_truncate: bool
  tokenization_workers: int
  version: str
  sha: str | None
  docker_label: str | None
