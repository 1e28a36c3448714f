"""The recipe: the configuration of a run, as checked dataclasses."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from bert_jax import settings, tasks
from bert_jax.data.augmentation import AugmentationConfig, MaskedLanguageModel
from bert_jax.data.corpus.build import CorpusConfig
from bert_jax.interop.pretrained import Pretrained, check_vocabulary
from bert_jax.models.config import RUNTIME_FIELDS, EncoderConfig, encoder_config
from bert_jax.models.exits import Exits
from bert_jax.settings import UserError
from bert_jax.tasks.data import TrainingData
from bert_jax.tasks.labelled import LabelledConfig
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer, fingerprint
from bert_jax.training import finetuning, parametrizations
from bert_jax.training.distillation import teacher as teacher_lib
from bert_jax.training.distillation.config import TeacherConfig
from bert_jax.training.finetuning import FinetuningConfig
from bert_jax.training.logging import LOGGERS
from bert_jax.training.mesh.meshes import MeshConfig
from bert_jax.training.optim.ema import EmaConfig
from bert_jax.training.optim.guard import GuardConfig
from bert_jax.training.optim.optimizer import OptimizerConfig
from bert_jax.training.parametrizations.lora import LoraConfig
from bert_jax.training.parametrizations.parametrization import (
  Parametrization,
  Parametrized,
)
from bert_jax.training.parametrizations.pruning import PruningConfig
from bert_jax.training.parametrizations.quantization import QuantizationConfig

# Keys of `model` that may be set for a pretrained model.
_OF_A_RUN = (
  *RUNTIME_FIELDS,
  "attention_dropout",
  "hidden_dropout",
  "initializer_range",
  "layer_dropouts",
  "pooling",
  "vocab_multiple",
)


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
  """The section `config.evaluation`.

  Attributes:
    every: steps between evaluations, 0 for one per epoch; there is always one
      at the end.
    examples: the number of evaluation rows, or records. They are drawn from all
      of them, the same ones at every evaluation and in every run; 0 for all.
    batch_size: rows of a batch; 0 takes a training micro-batch.
    metric: the metric that chooses the best checkpoint, from which the model
      is taken; empty to take the last checkpoint.
    patience: the number of evaluations without a better value of `metric`
      after which training stops; 0 never stops.
    target: the value of `metric` at which training stops; None never stops.
  """

  every: int = 1000
  examples: int = 2048
  batch_size: int = 0
  metric: str = ""
  patience: int = 0
  target: float | None = None

  def __post_init__(self):
    sizes = ("examples", "batch_size", "patience")
    settings.check(self, "at least 0", lambda x: x >= 0, *sizes)
    if (self.patience or self.target is not None) and not self.metric:
      raise ValueError("metric: missing; patience and target need one")


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
  """The section `config.checkpoint`.

  Attributes:
    every: steps between checkpoints, 0 for one per epoch; there is always one
      at the end.
    keep: the number of newest checkpoints to keep, besides the best one.
    frozen: whether the encoder's frozen parameters are saved, too. Without
      them, checkpoints of adapters are small, and the run needs the model of
      config.init as it is.
  """

  every: int = 1000
  keep: int = 3
  frozen: bool = True


@dataclasses.dataclass(frozen=True)
class LoggingConfig:
  """The section `config.logging`.

  Attributes:
    every: steps between training logs.
    loggers: keys of `bert_jax.training.logging.LOGGERS`; metrics.jsonl and the
      console are always written.
  """

  every: int = 100
  loggers: tuple[str, ...] = ("tensorboard",)

  def __post_init__(self):
    for name in self.loggers:
      settings.choice("config.logging.loggers", name, LOGGERS)


@dataclasses.dataclass(frozen=True)
class Recipe:
  """The configuration of a run, from its config file and the command line.

  Attributes:
    batch_size: rows of an update, over all devices and hosts.
    steps: the number of updates; 0 if `epochs` is given.
    epochs: the number of passes through the training data; 0 if `steps` is
      given.
    hours: above 0, the run ends after this time of training, and its schedule
      follows the time: `steps` is the length of the schedule and the largest
      number of updates. See `run.schedule_step`.
    accumulation: the number of micro-batches that the rows of an update are
      split into.
    seed: of initial values, dropout, and the order and masks of examples.
    workers: processes that make examples; 0 makes them in a thread.
    task: a name in `bert_jax.tasks.TASKS` that can be trained.
    init: the model to start from, anything that `bert_jax.load` takes; its
      encoder, vocabulary and matching heads are used.
    finetuning: which of its parameters are frozen or newly initialized.
    exits: heads after lower layers, by which predictions may leave early.
    lora: low-rank adapters that are trained in place of the encoder.
    pruning: weights, heads or units that become zeros.
    quantization: parameters that are rounded to few bits in training.
    teacher: the model that this one learns from.
    ema: averages of the parameters, as the model.
    model: fields of `EncoderConfig`, and `preset`; with `init` only fields
      that do not change the architecture, such as `hidden_dropout`.
    data: fields of the task's class in `bert_jax.tasks.DATA`.
    corpus: the text that `bert-jax prepare` reads; not used in training.
    compiler_options: of XLA for the update, by their names; they hold for
      one kind of device and some versions of jaxlib.
  """

  batch_size: int
  steps: int = 0
  epochs: float = 0.0
  hours: float = 0.0
  accumulation: int = 1
  seed: int = 0
  workers: int = 0
  task: str = "pretraining"
  init: str | None = None
  model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  optimizer: OptimizerConfig = dataclasses.field(
    default_factory=OptimizerConfig
  )
  finetuning: FinetuningConfig = dataclasses.field(
    default_factory=FinetuningConfig
  )
  exits: Exits = dataclasses.field(default_factory=Exits)
  lora: LoraConfig = dataclasses.field(default_factory=LoraConfig)
  pruning: PruningConfig = dataclasses.field(default_factory=PruningConfig)
  quantization: QuantizationConfig = dataclasses.field(
    default_factory=QuantizationConfig
  )
  teacher: TeacherConfig = dataclasses.field(default_factory=TeacherConfig)
  ema: EmaConfig = dataclasses.field(default_factory=EmaConfig)
  mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
  guard: GuardConfig = dataclasses.field(default_factory=GuardConfig)
  evaluation: EvaluationConfig = dataclasses.field(
    default_factory=EvaluationConfig
  )
  checkpoint: CheckpointConfig = dataclasses.field(
    default_factory=CheckpointConfig
  )
  logging: LoggingConfig = dataclasses.field(default_factory=LoggingConfig)
  corpus: CorpusConfig | None = None
  compiler_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  SECTIONS: ClassVar = {"model": EncoderConfig, "data": LabelledConfig}

  def __post_init__(self):
    settings.choice("config.task", self.task, tasks.DATA)
    if self.init and "preset" in self.model:
      raise ValueError(
        "model.preset: config.init says what the model is; leave it out"
      )
    if (self.steps > 0) == (self.epochs > 0):
      raise ValueError(
        "steps: give a number above 0 for either steps or epochs, got"
        f" {self.steps} and {self.epochs}"
      )
    if not 0 <= self.hours < math.inf or (self.hours and not self.steps):
      raise ValueError(
        f"hours: expected at least 0, together with steps, got {self.hours}"
      )
    if self.finetuning != FinetuningConfig() and not self.init:
      raise ValueError("finetuning: there is no config.init to fine-tune")
    if not self.checkpoint.frozen:
      for given, name in (
        (not self.init, "init: missing"),
        (self.finetuning.from_scratch, "finetuning.from_scratch: initialized"),
        (
          self.finetuning.reinit_layers,
          "finetuning.reinit_layers: initialized",
        ),
        (self.ema.decay, "ema.decay: averaged"),
      ):
        if given:
          raise ValueError(
            f"{name}; checkpoint.frozen=False needs parameters that are those"
            " of config.init"
          )
    if self.lora.rank and not self.init:
      raise ValueError("lora.rank: there is no config.init to adapt")
    if self.pruning.method and (self.ema.decay or self.hours):
      raise ValueError(
        "pruning.method: does not go with ema.decay, since averages of masks"
        " are no masks, nor with hours, since its schedule counts steps"
      )
    if self.teacher != TeacherConfig() and not self.teacher.models:
      raise ValueError("teacher.models: missing; the other keys need a teacher")
    sizes = ("batch_size", "accumulation")
    settings.check(self, "at least 1", lambda x: x >= 1, *sizes)
    if self.batch_size % self.accumulation:
      raise ValueError(
        f"accumulation: {self.accumulation} micro-batches do not divide"
        f" batch_size {self.batch_size}"
      )
    for name, value in self.compiler_options.items():
      if not isinstance(value, bool | int | float | str):
        raise ValueError(
          f"compiler_options.{name}: expected a number, a string, True or"
          f" False, got {value!r}"
        )
    for section, least in ("evaluation", 0), ("checkpoint", 0), ("logging", 1):
      if getattr(self, section).every < least:
        raise ValueError(f"{section}.every: expected at least {least}")
    if not self.init:
      encoder_config(self.model)
    self.data_config()

  @classmethod
  def from_dict(cls, config: Mapping[str, Any]) -> Self:
    """Checks a config.

    Raises:
      UserError: a key is unknown or missing, or a value does not fit.
    """
    return settings.from_dict(cls, config)

  def to_dict(self) -> dict[str, Any]:
    """The config of this recipe with all defaults."""
    return dataclasses.asdict(
      dataclasses.replace(self, data=dataclasses.asdict(self.data_config()))
    )

  @property
  def counts_epochs(self) -> bool:
    """Whether `planned` needs the length of an epoch."""
    return not all((self.steps, self.evaluation.every, self.checkpoint.every))

  def planned(self, batches_per_epoch: int) -> Self:
    """The recipe with `steps`, and intervals of one epoch given in steps."""
    steps = self.steps or math.ceil(self.epochs * batches_per_epoch)

    def planned(section: Any) -> Any:
      every = section.every or batches_per_epoch
      return dataclasses.replace(section, every=every)

    return dataclasses.replace(
      self,
      steps=steps,
      epochs=0.0,
      evaluation=planned(self.evaluation),
      checkpoint=planned(self.checkpoint),
    )

  @property
  def augmentation(self) -> AugmentationConfig:
    """The augmentation of the task's training records."""
    return getattr(self.data_config(), "augmentation", AugmentationConfig())

  def make_task(
    self,
    pretrained: Pretrained | None = None,
    augmentation_model: MaskedLanguageModel | None = None,
    teachers: Sequence[Pretrained] = (),
  ) -> tuple[Task, TrainingData]:
    """Makes the task and its training data.

    Args:
      pretrained: the model that `init` names, if any.
      augmentation_model: the opened `config.data.augmentation.model`, if any.
      teachers: the opened `config.teacher.models`, if any.

    Raises:
      UserError: model, data and what `init` names do not fit together.
    """
    data = self.data_config()
    if augmentation_model is not None:
      changed = dataclasses.replace(
        data.augmentation, loaded_model=augmentation_model
      )
      data = dataclasses.replace(data, augmentation=changed)
    tokenizer = tasks.load_tokenizer(data)
    if pretrained is None:
      if tokenizer is None and teachers:
        tokenizer = teachers[0].tokenizer
      config, known = self._encoder_config(tokenizer), None
    else:
      config = self._pretrained_config(pretrained.config)
      known = pretrained.task
      tokenizer = self._pretrained_tokenizer(pretrained, tokenizer)
      finetuning.check(self.finetuning, config)
    teacher_lib.check_vocabulary(teachers, tokenizer, config.vocab_size)
    if teachers and self.teacher.soft:
      known = teacher_lib.known_task(known, teachers[0])
    task, data = tasks.make(data, config, tokenizer, known, self.seed)
    task = task.with_exits(self.exits)
    if parts := self.parametrizations(config):
      wrap = functools.partial(Parametrized, parts=parts)
      task = dataclasses.replace(task, wrap=wrap)
    if teachers:
      task = teacher_lib.observed(task, self.teacher, teachers[0])
    return task, data

  def parametrizations(
    self, encoder: EncoderConfig
  ) -> tuple[Parametrization, ...]:
    """What the model's parameters are computed by.

    Raises:
      UserError: a section does not fit the encoder.
    """
    sections = (getattr(self, name) for name in parametrizations.CONFIGS)
    made = (section.parametrization(encoder) for section in sections)
    return tuple(part for part in made if part is not None)

  def data_config(self) -> Any:
    """The section `data`, as the dataclass of its task."""
    return settings.from_dict(tasks.DATA[self.task], self.data, "config.data")

  def _pretrained_config(self, config: EncoderConfig) -> EncoderConfig:
    """The encoder of `init` with the fields that the recipe sets."""
    for name, value in self.model.items():
      if name not in _OF_A_RUN and value != getattr(config, name, None):
        raise UserError(
          f"config.model.{name}: {value!r}, but config.init {self.init} has"
          f" {getattr(config, name, None)!r}; leave it out"
        )
    return settings.replace(config, self.model, "config.model")

  def _pretrained_tokenizer(
    self, pretrained: Pretrained, tokenizer: Tokenizer | None
  ) -> Tokenizer | None:
    """The vocabulary of `init`, which must be that of the data."""
    own = pretrained.tokenizer
    if own is None:
      check_vocabulary(tokenizer, pretrained.config, "config.data")
      return tokenizer
    if tokenizer is not None and fingerprint(own) != fingerprint(tokenizer):
      raise UserError(
        f"config.data: its vocabulary is not that of config.init {self.init};"
        " prepare the text with that, `bert-jax prepare"
        f" --config.init={self.init} ...`"
      )
    return own

  def _encoder_config(self, tokenizer: Tokenizer | None):
    """The encoder; its vocabulary size is the tokenizer's by default."""
    model = dict(self.model)
    if tokenizer is not None:
      given = model.setdefault("vocab_size", len(tokenizer))
      if given < len(tokenizer):
        raise UserError(
          f"config.model.vocab_size: {given} is less than the"
          f" {len(tokenizer)} entries of the vocabulary"
        )
    return encoder_config(model)
