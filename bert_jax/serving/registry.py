"""The models of a server: versions, hot updates, roll backs, canaries."""

import asyncio
import contextlib
import dataclasses
import fcntl
import json
import logging
import os
import pathlib
import random
from collections.abc import Mapping
from typing import Any

from bert_jax import settings as settings_lib
from bert_jax.serving import opening, versions
from bert_jax.serving.engine import Engine
from bert_jax.serving.errors import ServingError
from bert_jax.serving.logs import event
from bert_jax.serving.metrics import Metrics
from bert_jax.serving.opening import Opener
from bert_jax.serving.served import Served
from bert_jax.serving.settings import ServeSettings
from bert_jax.settings import UserError

_STATE = "versions.json"


@dataclasses.dataclass
class Wanted:
  """What the administration says of a model's versions.

  Attributes:
    excluded: versions that were rolled back.
    promoted: versions that take all requests in spite of `canary_weight`.
    canary: the version that takes a share of the requests; empty without one.
    weight: this share.
  """

  excluded: tuple[str, ...] = ()
  promoted: tuple[str, ...] = ()
  canary: str = ""
  weight: float = 0.0


@dataclasses.dataclass
class Model:
  """A model and its versions.

  Attributes:
    name: of the model.
    where: its place.
    is_folder: whether that is a folder of versions.
    active: the version that takes the requests; None if none is loaded yet.
    canary: the version that takes a share of them.
    weight: this share.
    refused: why a version is not loaded, by version and fingerprint.
    seen: fingerprints of versions at the last look.
    wanted: by the administration.
  """

  name: str
  where: str
  is_folder: bool
  active: Served | None = None
  canary: Served | None = None
  weight: float = 0.0
  refused: dict[tuple[str, str], str] = dataclasses.field(default_factory=dict)
  seen: dict[str, str] = dataclasses.field(default_factory=dict)
  wanted: Wanted = dataclasses.field(default_factory=Wanted)


class Registry:
  """The models by name and version.

  Its methods are called in the event loop; models are loaded in threads.

  Attributes:
    draining: whether the server is stopping: it still answers, but says that
      it is not ready.
  """

  def __init__(
    self,
    settings: ServeSettings,
    metrics: Metrics,
    opener: Opener,
    shared: pathlib.Path | None = None,
  ):
    """Loads nothing yet.

    Args:
      settings: of the server.
      metrics: of the server.
      opener: opens models.
      shared: a folder by which several processes of a server tell each other
        what the administration wants.
    """
    self.draining = False
    self._settings, self._metrics, self._opener = settings, metrics, opener
    self._state = shared and shared / _STATE
    self._state_time = 0
    self._models = {}
    for name, where in settings.models.items():
      is_folder = not versions.is_model(where)
      self._models[name] = Model(name, where, is_folder)
    self._core = Engine(settings.max_wait)
    self._lock = asyncio.Lock()
    self._watching: asyncio.Task | None = None

  # What requests ask.

  def names(self) -> list[str]:
    """The names of all models."""
    return list(self._models)

  def get(self, name: str | None = None, version: str | None = None) -> Served:
    """The version of a model that answers a request.

    Args:
      name: of the model; by default the first one.
      version: of the model; by default the active one, or the canary.

    Raises:
      ServingError: there is no such model or version, or it is not loaded yet.
    """
    if not name:
      name = next(iter(self._models))
    model = self._models.get(name)
    if model is None:
      known = ", ".join(self._models)
      raise ServingError(
        "not_found", f"model {name[:40]!r}: unknown; known: {known}"
      )
    loaded = [x for x in (model.active, model.canary) if x is not None]
    if not loaded:
      raise ServingError(
        "unavailable", f"the model {name} is not loaded yet", retry_after=1
      )
    if version:
      for served in loaded:
        if served.version == version:
          return served
      known = ", ".join(served.version for served in loaded)
      raise ServingError(
        "not_found",
        f"version {version[:40]!r} of the model {name}: not loaded; loaded:"
        f" {known}",
      )
    if model.canary is not None and random.random() < model.weight:
      return model.canary
    return loaded[0]

  @property
  def ready(self) -> bool:
    """Whether every model answers, and the server is not stopping."""
    loaded = all(model.active is not None for model in self._models.values())
    return loaded and not self.draining and self.live

  @property
  def live(self) -> bool:
    """Whether the engine works."""
    return self._core.live

  @property
  def pending(self) -> int:
    """The number of requests that are not answered."""
    return self._core.pending

  def status(self) -> dict[str, Any]:
    """The models and their versions."""
    return {
      name: {
        "where": model.where,
        "active": model.active and model.active.info(),
        "canary": model.canary
        and {**model.canary.info(), "weight": model.weight},
        "excluded": list(model.wanted.excluded),
        "refused": {
          version: reason for (version, _), reason in model.refused.items()
        },
      }
      for name, model in self._models.items()
    }

  # Loading and updates.

  async def start(self) -> None:
    """Loads all models, and watches folders of versions from then on.

    Raises:
      UserError: a model that is no folder of versions cannot be loaded.
    """
    self._read_state()
    for model in self._models.values():
      await self._reconcile(model, first=True)
      if not model.is_folder and model.active is None:
        raise UserError(next(iter(model.refused.values())))
      if model.active is None:
        event("waiting for a version", model=model.name, where=model.where)
    self._watching = asyncio.create_task(self._watch())

  async def stop(self, grace: float) -> None:
    """Waits for the requests that were accepted, and refuses the rest.

    Args:
      grace: seconds to wait at most.
    """
    self.draining = True
    if self._watching is not None:
      self._watching.cancel()
    with contextlib.suppress(TimeoutError):
      async with asyncio.timeout(grace):
        while self._core.pending:
          await asyncio.sleep(0.02)
    self._core.stop()

  async def _watch(self) -> None:
    while True:
      await asyncio.sleep(self._settings.poll_interval)
      try:
        self._read_state()
        for model in self._models.values():
          if model.is_folder:
            await self._reconcile(model)
      except Exception:  # It goes on: the next look may find what is right.
        logging.getLogger("bert_jax.serving").exception("a look failed")

  async def _reconcile(self, model: Model, first: bool = False) -> None:
    """Loads and switches to the versions that are there and wanted."""
    async with self._lock:
      if model.is_folder:
        found = await asyncio.to_thread(versions.found, model.where)
      else:
        found = {await asyncio.to_thread(versions.fingerprint, model.where): ""}
      stable = {
        version: mark
        for version, mark in found.items()
        if first
        or not model.is_folder
        or model.seen.get(version) == mark
        or versions.is_export(self._place(model, version))
      }
      model.seen = found
      candidates = [x for x in stable if x not in model.wanted.excluded]
      await self._choose(model, candidates, stable)

  def _place(self, model: Model, version: str) -> str:
    """The folder of a version."""
    if not model.is_folder:
      return model.where
    return os.path.join(model.where, version)

  async def _choose(
    self, model: Model, candidates: list[str], marks: Mapping[str, str]
  ) -> None:
    """Switches to the first candidate that can be loaded; sets the canary."""
    wanted, share = model.wanted, self._settings.canary_weight
    weights = {wanted.canary: wanted.weight} if wanted.canary else {}
    current = model.active.version if model.active is not None else None
    newest = candidates[0] if candidates else None
    if (
      newest not in (None, current, *wanted.promoted)
      and current in candidates
      and 0 < share < 1
    ):
      weights.setdefault(newest, share)
    newer = candidates
    if model.is_folder and current and current not in wanted.excluded:
      least = versions.order(current)
      newer = [x for x in candidates if versions.order(x) > least]
    for version in newer:
      if version in weights and (current or len(candidates) > 1):
        continue
      if version == current:
        break
      served = await self._load(model, version, marks[version])
      if served is not None:
        self._activate(model, served)
        break
    of_share = next((x for x in candidates if x in weights), None)
    canary = None
    if of_share and model.active and model.active.version != of_share:
      canary = await self._load(model, of_share, marks[of_share])
    self._set_share(model, canary, weights.get(of_share, 0.0))

  def _set_share(
    self, model: Model, canary: Served | None, weight: float
  ) -> None:
    """Gives a version, or none, a share of the requests."""
    old, model.canary = model.canary, canary
    model.weight = weight if canary is not None else 0.0
    if canary is old:
      return
    if old is not None and old is not model.active:
      self._note(old, on=False)
    if canary is not None:
      self._note(canary, on=True)
      event("canary", model=model.name, version=canary.version, weight=weight)

  def _activate(self, model: Model, served: Served) -> None:
    """Gives a version the requests from now on; those of the old one end."""
    old, model.active = model.active, served
    if model.canary is served:
      model.canary, model.weight = None, 0.0
    if old is not None:
      self._note(old, on=False)
    self._note(served, on=True)
    event(
      "serving",
      model=model.name,
      version=served.version,
      engine=served.engine,
      previous=old.version if old is not None else None,
    )

  def _note(self, served: Served, on: bool) -> None:
    self._metrics.serves(served.name, served.version, served.engine, on)

  async def _load(self, model: Model, version: str, mark: str) -> Served | None:
    """A version that was loaded and tried out; None if it was refused."""
    if model.canary is not None and model.canary.version == version:
      return model.canary
    if (version, mark) in model.refused:
      return None
    try:
      served = await asyncio.to_thread(self._open, model, version)
    except Exception as error:
      # An engine may raise anything about a damaged file.
      reason = " ".join(str(error).split()) or type(error).__name__
      model.refused = {
        key: x for key, x in model.refused.items() if key[0] != version
      }
      model.refused[version, mark] = reason
      self._metrics.updated(model.name, "refused")
      event(
        "refused",
        logging.ERROR,
        model=model.name,
        version=version,
        reason=reason,
      )
      return None
    self._metrics.updated(model.name, "loaded")
    return served

  def _open(self, model: Model, version: str) -> Served:
    """Opens a version and tries it out, in a thread."""
    place = self._place(model, version)
    opened, engine = self._opener.open(place)
    if model.active is not None and not self._settings.allow_changed_outputs:
      opening.check_same_outputs(model.active.model.task, opened.task)
    served = Served(
      model.name,
      version,
      engine,
      opened,
      self._core,
      self._metrics,
      self._settings,
    )
    if opened.task.tokenizer is None:
      raise UserError(f"{place} has no vocabulary")
    served.try_out(opening.canary_records(opened.task, (place, model.where)))
    return served

  # The administration.

  async def roll_back(self, name: str, version: str | None = None) -> None:
    """Gives an older version the requests; newer ones are not taken again.

    Args:
      name: of the model.
      version: of the model; by default the one before the active one that was
        not rolled back. One that was may be named, too.

    Raises:
      ServingError: there is no such model or version, or it was refused.
    """
    model = self._of_versions(name)
    found = list(await asyncio.to_thread(versions.found, model.where))
    active = model.active.version if model.active is not None else ""
    if version is None:
      older = found[found.index(active) + 1 :] if active in found else []
      older = [x for x in older if x not in model.wanted.excluded]
      if not older:
        raise ServingError(
          "not_found", f"the model {name} has no version before {active!r}"
        )
      version = older[0]
    self._check_version(model, version, found)
    excluded = set(found[: found.index(version)])
    kept = {x for x in model.wanted.excluded if x in found} - {version}
    changed = tuple(sorted(excluded | kept))
    promoted = (*model.wanted.promoted, version)
    await self._want(model, Wanted(changed, promoted))
    self._check_active(model, version)
    self._metrics.updated(name, "rolled_back")
    event("rolled back", model=name, version=version, previous=active)

  async def set_canary(self, name: str, version: str, weight: float) -> None:
    """Gives a version a share of the requests.

    Args:
      name: of the model.
      version: of the model.
      weight: the share; 0 takes the version out, 1 makes it the active one.

    Raises:
      ServingError: there is no such model or version, or it was refused.
    """
    if not 0 <= weight <= 1:
      raise ServingError("invalid_request", "weight: expected 0 to 1")
    model = self._of_versions(name)
    found = list(await asyncio.to_thread(versions.found, model.where))
    self._check_version(model, version, found)
    wanted = model.wanted
    others = tuple(x for x in wanted.excluded if x != version)
    promoted = (*wanted.promoted, version)
    if weight == 0:
      if model.active is not None and model.active.version == version:
        raise ServingError(
          "invalid_request", f"{version} is the active version; roll back"
        )
      await self._want(model, Wanted((*others, version), wanted.promoted))
    elif weight == 1:
      newer = tuple(found[: found.index(version)])
      excluded = tuple(sorted({*others, *newer}))
      await self._want(model, Wanted(excluded, promoted))
      self._check_active(model, version)
    else:
      if model.active is not None and model.active.version == version:
        raise ServingError(
          "invalid_request", f"{version} is the active version already"
        )
      await self._want(model, Wanted(others, wanted.promoted, version, weight))
      if model.canary is None or model.canary.version != version:
        raise self._refusal(model, version)

  async def reload(self, name: str) -> None:
    """Looks for new versions now; also at those that were refused.

    Raises:
      ServingError: there is no such model.
    """
    model = self._model(name)
    model.refused.clear()
    await self._reconcile(model)

  def _model(self, name: str) -> Model:
    if name not in self._models:
      known = ", ".join(self._models)
      raise ServingError(
        "not_found", f"model {name[:40]!r}: unknown; known: {known}"
      )
    return self._models[name]

  def _of_versions(self, name: str) -> Model:
    model = self._model(name)
    if not model.is_folder:
      raise ServingError(
        "invalid_request", f"the model {name} is no folder of versions"
      )
    return model

  def _check_version(
    self, model: Model, version: str, found: list[str]
  ) -> None:
    if version not in found:
      known = ", ".join(found) or "none"
      raise ServingError(
        "not_found",
        f"version {version[:40]!r} of the model {model.name}: unknown; known:"
        f" {known[:400]}",
      )

  def _check_active(self, model: Model, version: str) -> None:
    if model.active is None or model.active.version != version:
      raise self._refusal(model, version)

  def _refusal(self, model: Model, version: str) -> ServingError:
    reasons = [x for (name, _), x in model.refused.items() if name == version]
    reason = reasons[0] if reasons else "it is not there"
    return ServingError(
      "unprocessable", f"version {version} was refused: {reason}"
    )

  async def _want(self, model: Model, wanted: Wanted) -> None:
    """Notes what is wanted, also for the other processes, and does it."""
    model.wanted = wanted
    if self._state is not None:
      with _updated(self._state) as state:
        state[model.name] = dataclasses.asdict(wanted)
    for key in [key for key in model.refused if key[0] not in wanted.excluded]:
      del model.refused[key]
    await self._reconcile(model)

  def _read_state(self) -> None:
    """Takes over what another process was told."""
    if self._state is None or not self._state.exists():
      return
    changed = self._state.stat().st_mtime_ns
    if changed == self._state_time:
      return
    self._state_time = changed
    for name, wanted in json.loads(self._state.read_text()).items():
      where = f"{self._state}: {name}"
      self._models[name].wanted = settings_lib.from_dict(Wanted, wanted, where)


@contextlib.contextmanager
def _updated(path: pathlib.Path) -> Any:
  """The contents of a JSON file, which is replaced when the block ends."""
  with path.with_suffix(".lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    state = json.loads(path.read_text()) if path.exists() else {}
    yield state
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(state))
    partial.replace(path)
