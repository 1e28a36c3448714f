"""The tasks, by the name that `config.task` gives, and their data."""

from collections.abc import Mapping
from typing import Any

from bert_jax import settings, text
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks import labelled, multi_task, multi_task_data, pretraining
from bert_jax.tasks.data import TrainingData
from bert_jax.tasks.inputs.choices import Choices
from bert_jax.tasks.inputs.corpus import Corpus
from bert_jax.tasks.inputs.masked_copies import MaskedCopies
from bert_jax.tasks.inputs.pairs import Pairs
from bert_jax.tasks.inputs.question_context import QuestionContext
from bert_jax.tasks.inputs.source import Source
from bert_jax.tasks.inputs.texts import Texts
from bert_jax.tasks.inputs.words import Tokens, Words
from bert_jax.tasks.labelled import LabelledConfig
from bert_jax.tasks.multi_task import MultiTask
from bert_jax.tasks.multi_task_data import MultiTaskConfig
from bert_jax.tasks.pretraining import CorpusDataConfig
from bert_jax.tasks.targets.choice import Choice
from bert_jax.tasks.targets.class_label import ClassLabel
from bert_jax.tasks.targets.masked_tokens import MaskedTokens
from bert_jax.tasks.targets.multi_label import MultiLabel
from bert_jax.tasks.targets.next_sentence import NextSentence
from bert_jax.tasks.targets.next_tokens import NextTokens
from bert_jax.tasks.targets.replaced_tokens import ReplacedTokens
from bert_jax.tasks.targets.similarity import Similarity
from bert_jax.tasks.targets.span import Span
from bert_jax.tasks.targets.target import Target
from bert_jax.tasks.targets.token_labels import TokenLabels
from bert_jax.tasks.targets.token_likelihood import TokenLikelihood
from bert_jax.tasks.targets.values import Values
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer

__all__ = [
  "DATA",
  "EMBEDDING",
  "LABELLED",
  "MASKED_LM",
  "PRETRAINED",
  "PSEUDO_LOG_LIKELIHOOD",
  "TASKS",
  "Target",
  "Task",
  "Texts",
  "from_state",
  "load_tokenizer",
  "make",
]

_LENGTH = 128

_FROM_RECORDS = (
  Task("classification", Texts(_LENGTH), {"label": ClassLabel()}),
  Task("multi_label", Texts(_LENGTH), {"labels": MultiLabel()}),
  Task(
    "regression",
    Texts(_LENGTH),
    {"values": Values()},
    fields=("text", "label", "pair", "values"),
  ),
  Task("tagging", Words(_LENGTH), {"tags": TokenLabels()}),
  # Joint intent classification and slot filling (Chen et al. 2019,
  # arXiv:1902.10909).
  Task(
    "dialogue",
    Words(_LENGTH),
    {"intent": ClassLabel(), "slots": TokenLabels(entities=True)},
    prefixed=True,
    fields=("words", "tags", "label"),
  ),
  Task("question_answering", QuestionContext(), {"answer": Span()}),
  Task("multiple_choice", Choices(_LENGTH), {"choice": Choice()}),
  Task("embedding", Pairs(_LENGTH), {"similarity": Similarity()}),
  # The head, and so the target, has the name of masked tokens'.
  Task("generation", Source(_LENGTH), {"masked_lm": NextTokens()}),
)
_FROM_A_CORPUS = (
  Task("masked_lm", Corpus(), {"masked_lm": MaskedTokens()}),
  Task(
    "pretraining",
    Corpus(pairs=True),
    {"masked_lm": MaskedTokens(), "next_sentence": NextSentence()},
    architecture="ForPreTraining",
  ),
)
_PUBLISHED = (
  Task(
    "next_sentence",
    Texts(pair_required=True),
    {"next_sentence": NextSentence()},
  ),
  Task("replaced_tokens", Tokens(), {"replaced": ReplacedTokens()}),
  Task(
    "pseudo_log_likelihood", MaskedCopies(), {"masked_lm": TokenLikelihood()}
  ),
)

TASKS: Mapping[str, Task] = {
  task.name: task for task in (*_FROM_RECORDS, *_FROM_A_CORPUS, *_PUBLISHED)
}
"""The tasks by name. A task of an existing kind is one line of this table.

Their inputs and targets are those that training starts from; `_PUBLISHED` are
those of published models that cannot be trained here.
"""

EMBEDDING = TASKS["embedding"].for_published()
"""Vectors of texts, which every encoder gives."""
MASKED_LM = TASKS["masked_lm"].for_published()
"""Masked tokens, for augmentation."""
PRETRAINED = TASKS["pretraining"].for_published()
"""BERT's two pretraining heads, as Google published them."""

PSEUDO_LOG_LIKELIHOOD = TASKS["pseudo_log_likelihood"]
"""How likely texts are, which every encoder with a masked-LM head says."""

LABELLED: Mapping[str, type[LabelledConfig]] = {
  task.name: labelled.config_class(task) for task in _FROM_RECORDS
}
"""The section `config.data` of the tasks that learn from labelled records."""

DATA: Mapping[str, type[Any]] = {
  **LABELLED,
  **{task.name: pretraining.config_class(task) for task in _FROM_A_CORPUS},
  multi_task.NAME: MultiTaskConfig,
}
"""The section `config.data` of all tasks that can be trained."""

DataConfig = LabelledConfig | CorpusDataConfig | MultiTaskConfig


def load_tokenizer(config: DataConfig) -> Tokenizer | None:
  """The vocabulary that the data name; `config.init` may bring another.

  Raises:
    UserError: there is no such vocabulary, or the data name nothing.
  """
  if isinstance(config, CorpusDataConfig):
    return pretraining.load_tokenizer(config)
  return text.load(config.tokenizer) if config.tokenizer else None


def make(
  config: DataConfig,
  encoder: EncoderConfig,
  tokenizer: Tokenizer | None,
  pretrained: Task | None = None,
  seed: int = 0,
) -> tuple[Task, TrainingData]:
  """The task that a section `config.data` is of, and its training data.

  Args:
    config: the section.
    encoder: the encoder's configuration.
    tokenizer: the vocabulary; None where only ids are at hand.
    pretrained: the task of the initial model.
    seed: of the order and masks of a corpus's examples.

  Raises:
    UserError: the data cannot be read, or do not fit the task.
  """
  if isinstance(config, CorpusDataConfig):
    return pretraining.make(config, encoder, tokenizer, seed)
  if isinstance(config, MultiTaskConfig):
    if not isinstance(pretrained, MultiTask):
      pretrained = None
    return multi_task_data.make(config, encoder, tokenizer, pretrained)
  if pretrained is not None and pretrained.name != config.TASK.name:
    pretrained = None
  return labelled.make(config, encoder, tokenizer, pretrained)


def from_state(state: Mapping[str, Any], where: str) -> Task:
  """The task that a checkpoint kept; see `Task.state`.

  Raises:
    UserError: the state is damaged.
  """
  if state.get("name") == multi_task.NAME:
    parts = state.get("tasks")
    if not isinstance(parts, Mapping) or not parts:
      raise settings.UserError(
        f"{where}.tasks: expected tasks, got {parts!r:.80}"
      )
    return MultiTask(
      tasks={
        name: from_state(part, f"{where}.tasks.{name}")
        for name, part in parts.items()
      }
    )
  table = settings.choice(f"{where}.name", str(state.get("name")), TASKS)
  return table.with_state(state, where)
