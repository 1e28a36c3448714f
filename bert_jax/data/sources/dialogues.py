"""Reads dialogues, one per line, whose turns end with `__eou__`.

The format of DailyDialog (Li et al. 2017, arXiv:1710.03957) and of data sets
that extend it. What follows the last turn after a tab, such as labels of turns,
is ignored.
"""

from collections.abc import Iterator

from bert_jax.data.sources import labelled
from bert_jax.data.sources.labelled import BadRow, Layout, Record, Row
from bert_jax.settings import UserError

END = "__eou__"
"""The end of a turn."""

_FIELDS = ("turns", "target", "dialogue")


def read(path: str, layout: Layout) -> Iterator[Row | BadRow]:
  """Yields records {"turns", "target", "dialogue"} of the fields asked for.

  With a field `target`, there is a record for each turn but the first: the
  turn, and those before it. Without one, there is a record for each dialogue,
  with all of its turns. `dialogue` is the number of the line, by which the
  records of one dialogue can be held out together (`config.data.eval_group`).

  Raises:
    UserError: the file cannot be read, columns are given, or a field is
      required that the format lacks.
  """
  fields = layout.only(_FIELDS, "dialogues")
  for field in fields:
    if layout.column(field) is not None:
      raise UserError(
        f"{layout.section}.columns.{field}: {path} has dialogues, which have no"
        " columns"
      )
  with labelled.open_text(path, encoding=layout.encoding) as file:
    for number, line in enumerate(file, 1):
      if not line.strip():
        continue
      where = f"{path}:{number}"
      turns = labelled.row(where, _turns, line, "target" in fields)
      if isinstance(turns, BadRow):
        yield turns
        continue
      found = turns.record["turns"]
      ends = range(1, len(found)) if "target" in fields else [len(found)]
      for end in ends:
        made = {
          "turns": found[:end],
          "target": found[end] if end < len(found) else None,
          "dialogue": number,
        }
        yield Row(where, {field: made[field] for field in fields})


def is_dialogues(path: str, layout: Layout) -> bool:
  """Whether the first lines of a text file are dialogues."""
  with labelled.open_text(path, encoding=layout.encoding) as file:
    return any(END in line for _, line in zip(range(10), file))


def _turns(line: str, has_target: bool) -> Record:
  """The turns of a dialogue: more than one where one is a target."""
  labelled.check_text(line)
  text, mark, rest = line.rpartition(END)
  # After the last mark there are labels, or the last turn without its mark.
  text = f"{text}{mark}{rest.partition(chr(9))[0]}"
  turns = [turn for part in text.split(END) if (turn := part.strip())]
  if len(turns) < 1 + has_target:
    raise labelled.RefusedError(
      f"expected turns that end with {END}, got {line.strip()!r:.40}"
    )
  return {"turns": turns}
