"""Models that write, as the server calls them."""

import asyncio

import pytest

import bert_jax
from bert_jax.serving import opening
from bert_jax.serving.errors import ServingError
from bert_jax.serving.settings import ServeSettings
from tests.serving.test_exact import serve
from tests.tasks import cases

RECORDS = [cases.RECORDS["generation"], *cases.OTHERS["generation"]]
OPTIONS = ("max_new_tokens=6", "do_sample=True", "top_k=20")


async def read(pieces):
  return [piece async for piece in pieces]


def test_texts_are_those_of_the_model_written_together_alone_or_streamed():
  model = cases.model("generation")
  options = {"max_new_tokens": 6, "do_sample": True, "top_k": 20}

  async def scenario(served):
    served.try_out(RECORDS[:1])
    joined = await served.answer(RECORDS)
    (seeded,) = await served.answer(RECORDS[:1], options={"seed": 7})
    streams = await asyncio.gather(
      *(read(served.stream(record)) for record in RECORDS)
    )
    with pytest.raises(ServingError, match="a request may set the seed alone"):
      await served.answer(RECORDS[:1], options={"temperature": 2.0})
    with pytest.raises(ServingError, match="no output 'masked_lm'"):
      await served.outputs(RECORDS[:1], "masked_lm")
    left = served.stream(RECORDS[0])
    await anext(left)
    await left.aclose()
    return joined, seeded, streams

  joined, seeded, streams = serve(
    model,
    scenario,
    engine="jax",
    max_batch_rows=1,
    generation=OPTIONS,
    # Of a busy machine.
    queue_timeout=60,
  )
  expected = model(RECORDS, **options)
  assert [[x.text for x in texts] for texts in joined] == [
    [x.text for x in texts] for texts in expected
  ]
  (other,) = model(RECORDS[:1], **options, seed=7)
  assert seeded[0].text == other[0].text != joined[0][0].text
  for pieces, (text,) in zip(streams, expected):
    assert "".join(pieces[: None if text.finished else -1]) == text.text
    assert text.finished or pieces[-1] is None


def test_beams_do_not_stream():
  model = cases.model("generation")

  async def scenario(served):
    with pytest.raises(ServingError, match="writes with beams"):
      await read(served.stream(RECORDS[0]))

  serve(model, scenario, engine="jax", generation=("num_beams=2",))

  async def refused(served):
    with pytest.raises(ServingError, match="or none"):
      await read(served.stream("a"))

  serve(cases.model("classification"), refused, engine="jax")


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ("beams=2", "beams: unknown key; did you mean 'num_beams'"),
    ("num_beams", "expected NAME=VALUE"),
    ("num_beams=0", "num_beams: expected"),
    ("top_p=x", "expected NAME=VALUE"),
  ],
)
def test_wrong_options(given, message):
  with pytest.raises(ValueError, match=message):
    ServeSettings({"m": "where"}, generation=(given,))


def test_a_model_that_writes_is_opened_with_jax(tmp_path):
  bert_jax.save(cases.model("generation"), tmp_path / "writer", "bert_jax")
  opener = opening.Opener(ServeSettings({"m": "x"}), None, tmp_path)
  opened, engine = opener.open(str(tmp_path / "writer"))
  assert engine == "jax"
  assert opened.task.writes
