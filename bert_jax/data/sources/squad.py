"""Reads questions from the JSON files of SQuAD, versions 1.1 and 2.0.

See https://rajpurkar.github.io/SQuAD-explorer. Articles contain paragraphs,
which contain questions; positions count characters of the paragraph.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from bert_jax.data.sources import labelled
from bert_jax.data.sources.labelled import BadRow, Layout, Record, Row
from bert_jax.settings import UserError

_FIELDS = ("id", "question", "context", "answers")


def read(path: str, layout: Layout) -> Iterator[Row | BadRow]:
  """Yields one record per question; the location of a row is its ID.

  Raises:
    UserError: the file cannot be read, or is not JSON in this format.
  """
  yield from rows(path, labelled.read_json(path, layout.encoding), layout)


def is_squad(value: Any) -> bool:
  """Whether a JSON value has the form of SQuAD's files: data, paragraphs."""
  articles = value.get("data") if isinstance(value, Mapping) else None
  return isinstance(articles, list) and any(
    isinstance(article, Mapping) and "paragraphs" in article
    for article in articles
  )


def rows(path: str, value: Any, layout: Layout) -> Iterator[Row | BadRow]:
  """As `read`, from the JSON value of a file."""
  fields = layout.only(_FIELDS, "SQuAD files")
  for field in fields:
    if layout.column(field) is not None:
      raise UserError(
        f"{layout.section}.columns.{field}: {path} is in SQuAD's format, which"
        " has no columns"
      )
  seen = set()
  for place, context, question in _questions(path, value):
    where = f"{path}: {place}"
    if where in seen:
      yield BadRow(where, "duplicate question ID")
      continue
    seen.add(where)
    yield labelled.row(where, _record, context, question, fields, layout)


def answers(value: Any, context: Any) -> list[dict[str, Any]]:
  """Validates the answers to a question.

  Args:
    value: a list of {"text", "answer_start"}, as in SQuAD, or {"text",
      "start"}, as in our records; or {"text": [...], "answer_start": [...]},
      as in TFDS and the Hugging Face Hub.
    context: the text that contains the answers.

  Returns:
    A list of {"text": str, "start": int}, empty if there is no answer.

  Raises:
    RefusedError: an answer is malformed, or not at its position.
  """
  if not isinstance(context, str):
    raise labelled.RefusedError(f"the context is not text: {context!r:.40}")
  if isinstance(value, Mapping):
    texts, starts = value.get("text"), value.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list):
      raise labelled.RefusedError(
        "answers: expected lists under text, answer_start"
      )
    if len(texts) != len(starts):
      raise labelled.RefusedError(
        f"answers: {len(texts)} texts and {len(starts)} starts"
      )
    value = [{"text": t, "start": start} for t, start in zip(texts, starts)]
  if not isinstance(value, list):
    raise labelled.RefusedError(f"answers: expected a list, got {value!r:.40}")
  return [_answer(item, context) for item in value]


def _answer(item: Any, context: str) -> dict[str, Any]:
  if not isinstance(item, Mapping):
    raise labelled.RefusedError(
      f"an answer: expected text and start, got {item!r:.40}"
    )
  text, start = item.get("text"), item.get("answer_start", item.get("start"))
  if not isinstance(text, str) or type(start) is not int or not text:
    raise labelled.RefusedError(
      f"an answer: expected text and start, got {text!r:.40} and {start!r:.20}"
    )
  if start < 0 or not context.startswith(text, start):
    there = context[max(start, 0) :][: len(text)]
    raise labelled.RefusedError(
      f"the answer {text!r:.60} is not at character {start} of the context,"
      f" where {there!r:.60} is"
    )
  return {"text": text, "start": start}


def _questions(
  path: str, value: Any
) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
  """Yields the ID, the context and the JSON of each question."""
  try:
    for number, article in enumerate(value["data"]):
      for at, paragraph in enumerate(article["paragraphs"]):
        place = f"data[{number}].paragraphs[{at}]"
        context = paragraph.get("context")
        for index, question in enumerate(paragraph["qas"]):
          identity = question.get("id")
          where = place + f".qas[{index}]" if identity is None else identity
          yield str(where), context, question
  except (LookupError, TypeError, AttributeError) as error:
    reason = f"{type(error).__name__}: {error}"
    raise UserError(
      f"{path}: expected SQuAD's JSON: data, paragraphs, qas; {reason:.100}"
    ) from None


def _record(
  context: Any, question: Mapping[str, Any], fields: list[str], layout: Layout
) -> Record:
  record = {"context": context} | {
    name: question.get(name) for name in ("id", "question")
  }
  if isinstance(record["id"], int):
    record["id"] = str(record["id"])
  for name, value in record.items():
    if name in fields and not isinstance(value, str):
      raise labelled.RefusedError(f"{name}: expected text, got {value!r:.40}")
  if _is_true(question.get("is_impossible")):
    record["answers"] = []
  elif "answers" in question:
    record["answers"] = question["answers"]
  elif "answers" not in layout.optional:
    raise labelled.RefusedError("has neither answers nor is_impossible")
  return {field: record[field] for field in fields if field in record}


def _is_true(value: Any) -> bool:
  """A boolean, which some files hold as its name."""
  names = {"true": True, "1": True, "false": False, "0": False, "none": False}
  found = names.get(str(value).lower())
  if found is None:
    raise labelled.RefusedError(
      f"is_impossible: expected true or false, got {value!r:.40}"
    )
  return found
