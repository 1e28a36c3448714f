"""The folder of a run, on a file system or in an object store.

Objects cannot be appended to. Therefore the small files of a run in an object
store are kept on this machine: they are downloaded when the run starts, and
uploaded before every checkpoint and at the end, even after an error.
Checkpoints are written to the store directly, each process its own shards.
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
  """The locked folder of a run.

  Attributes:
    where: the folder that the user named.
    here: the local folder of its small files.
    check: raises UserError if another run has taken the folder; only in the
      first process.
  """

  where: Any
  here: pathlib.Path
  check: lock.Check | None = None
  _known: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)

  @property
  def checkpoints(self) -> Any:
    """The folder of the checkpoints, local or remote."""
    return self.where / CHECKPOINTS

  def fetch(self) -> None:
    """Downloads the small files of a run that is resumed."""
    for name in paths.list_names(self.where):
      if name != lock.NAME:
        content = paths.read_bytes(self.where / name)
        (self.here / name).write_bytes(content)
    self._known = self._state()

  def put(self) -> None:
    """Uploads the small files that have changed, in the first process.

    Raises:
      UserError: the store cannot be written to, or another run has taken it.
    """
    if not processes.is_first() or not paths.is_remote(self.where):
      return
    self.check()
    state = self._state()
    # Files at the top, which identify the run, come after those in folders.
    for name in sorted(state, key=lambda name: ("/" not in name, name)):
      if self._known.get(name) != state[name]:
        paths.upload_file(self.here / name, f"{self.where}/{name}")
    self._known = state

  def _state(self) -> dict[str, tuple[int, int]]:
    """The size and modification time of each small file."""
    found = {}
    for name, path in paths.list_files(self.here).items():
      if not name.endswith(".partial"):
        status = os.stat(path)
        found[name] = status.st_size, status.st_mtime_ns
    return found


@contextlib.contextmanager
def held(workdir: paths.Path) -> Iterator[Folder]:
  """Locks the folder for one run, in the first process.

  Raises:
    UserError: another run uses it, it cannot be created, or its new files
      cannot be uploaded.
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
        logging.error("%s", failure)  # The first error is the one to raise.
      raise
    folder.put()
