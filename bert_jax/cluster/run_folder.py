"""The folder of a run, on a file system or in an object store.

Objects cannot be appended to. So the small files of a run whose folder is in
a store are kept on this machine: they are fetched when the run begins or goes
on, and put up before every checkpoint and at the end, whatever the end. The
checkpoints themselves are written to the store at once, by every process its
own part.
"""

import contextlib
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from absl import logging

from bert_jax.cluster import lock, processes
from bert_jax.settings import UserError
from bert_jax.storage import paths

CHECKPOINTS = "checkpoints"


@dataclasses.dataclass
class Folder:
  """The folder of a run that is held.

  Attributes:
    where: as the user names it.
    here: where its small files are, on this machine.
    check: raises UserError if another run has taken the folder; the first
      process has it.
  """

  where: Any
  here: pathlib.Path
  check: lock.Check | None = None
  _known: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)

  @property
  def checkpoints(self) -> Any:
    """The folder of the checkpoints, here or in the store."""
    return self.where / CHECKPOINTS

  def fetch(self) -> None:
    """Gets the small files of a run that has begun."""
    for name in paths.list_names(self.where):
      if name != lock.NAME:
        content = paths.read_bytes(self.where / name)
        (self.here / name).write_bytes(content)
    self._known = self._state()

  def put(self) -> None:
    """Puts up what has changed of the small files; the first process does.

    Raises:
      UserError: the store cannot be written to, or another run has it.
    """
    if not processes.is_first() or not paths.is_remote(self.where):
      return
    self.check()
    state = self._state()
    # What says what the run is comes after what it takes to open it.
    for name in sorted(state, key=lambda name: ("/" not in name, name)):
      if self._known.get(name) != state[name]:
        paths.upload_file(self.here / name, f"{self.where}/{name}")
    self._known = state

  def _state(self) -> dict[str, tuple[int, int]]:
    """Size and time of each small file."""
    found = {}
    for name, path in paths.list_files(self.here).items():
      if not name.endswith(".partial"):
        status = os.stat(path)
        found[name] = status.st_size, status.st_mtime_ns
    return found


@contextlib.contextmanager
def held(workdir: paths.Path) -> Iterator[Folder]:
  """Holds the folder for one run; of several processes the first does.

  Raises:
    UserError: another run holds it, it cannot be made, or what is new in it
      cannot be put up.
  """
  where = paths.as_path(workdir)
  with contextlib.ExitStack() as stack:
    folder = Folder(where, where)

    def hold() -> None:
      folder.check = stack.enter_context(lock.held(where))

    processes.on_first(hold)
    if paths.is_remote(where):
      made = tempfile.TemporaryDirectory(prefix="bert_jax-")
      folder.here = pathlib.Path(stack.enter_context(made))
      folder.fetch()
    try:
      yield folder
    except BaseException:
      try:
        folder.put()
      except UserError as failure:
        logging.error("%s", failure)  # What ended the run stays in sight.
      raise
    folder.put()
