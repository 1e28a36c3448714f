import time

import pytest

from bert_jax.data.corpus import sentences


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
    (
      "Dr. Smith saw Mrs. Jones. She ran.",
      ["Dr. Smith saw Mrs. Jones.", "She ran."],
    ),
    ("It costs 3.14 dollars. Cheap.", ["It costs 3.14 dollars.", "Cheap."]),
    ("J. R. R. T. wrote. We read.", ["J. R. R. T. wrote.", "We read."]),
    ("The U.S. Army came. It left.", ["The U.S. Army came.", "It left."]),
    ("So was I. You too.", ["So was I.", "You too."]),
    ("Wait ... what? no more. Yes.", ["Wait ... what? no more.", "Yes."]),
    ('"So?" he asked. "Yes." I ran.', ['"So?" he asked.', '"Yes."', "I ran."]),
    ("He went home . It rained .", ["He went home .", "It rained ."]),
    ("これは文です。次の文！終わり", ["これは文です。", "次の文！", "終わり"]),
    ("Привет мир. Как дела?", ["Привет мир.", "Как дела?"]),
    ("A line\nbreak is no.\n\nA blank", ["A line break is no.", "A blank"]),
    (" \n \n\t", []),
  ],
)
def test_prose(text, expected):
  assert sentences.prose(text) == expected


def test_prose_loses_no_text_and_bounds_sentences():
  text = "word, " * 2000 + "x" * 3000 + " End. " + "long " * 900
  found = sentences.prose(text)
  assert "".join("".join(found).split()) == "".join(text.split())
  assert max(map(len, found)) <= 1000
  assert all(sentence == sentence.strip() != "" for sentence in found)


@pytest.mark.parametrize(
  "part", [".", " .", ". ", "A. ", "\n \n", "a.'", " ", "\n" + " " * 50, "。"]
)
def test_hostile_text_takes_linear_time(part):
  # Of this process alone, so that a busy machine changes nothing; quadratic
  # time would be hours.
  start = time.process_time()
  sentences.prose(part * (100_000 // len(part)))
  assert time.process_time() - start < 30


def test_lines():
  assert sentences.lines(" a b \n\n \nc. d\n") == [" a b ", "c. d"]
