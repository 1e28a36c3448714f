import asyncio
import contextlib
import gc
import time
import weakref

import numpy as np
import pytest

from bert_jax.serving import batching, tracing
from bert_jax.serving.errors import ServingError
from bert_jax.serving.served import Usage
from bert_jax.settings import UserError
from tests.serving.fakes import LIMIT, Serving

SHORT, LONG = "the array", " ".join(["sorted"] * 10)


def run(scenario, **changes):
  async def main():
    with Serving(**changes) as serving:
      return await asyncio.wait_for(scenario(serving), 60)

  return asyncio.run(main())


async def hold(serving):
  """Keeps the engine busy; returns the task of the request that does."""
  serving.forward.gate.clear()
  serving.forward.entered.clear()
  task = asyncio.create_task(serving.served.answer([SHORT]))
  assert await asyncio.to_thread(serving.forward.entered.wait, 30)
  return task


async def queued(serving, rows):
  """Waits until so many rows wait, tokenized."""
  queue = serving.served._queue
  while sum(map(len, queue._waiting.values())) != rows:
    await asyncio.sleep(0.001)


def ask(serving, *texts, **options):
  return asyncio.create_task(serving.served.answer(texts, **options))


def test_a_request_of_many_texts_is_cut_and_joined():
  texts = [" ".join(["the"] * n) for n in (1, 9, 2, 20, 3, 11, 1)]

  async def scenario(serving):
    usage = Usage()
    together = await serving.served.answer(texts, usage=usage)
    alone = [(await serving.served.answer([x]))[0] for x in texts]
    return together, alone, usage.tokens

  together, alone, tokens = run(scenario, max_batch_rows=2)
  assert together == alone
  assert [x[0].label for x in together] != ["no"] * 7
  assert tokens == sum(len(text.split()) + 2 for text in texts)


@pytest.mark.parametrize(
  "slack, shapes", [(16, [(6, 4), (3, 22), (3, 22)]), (18, [(3, 22)] * 4)]
)
def test_batches_stay_within_their_budget_and_share_a_length(slack, shapes):
  async def scenario(serving):
    serving.served._queue.shapes = batching.Shapes(slack=slack)
    first = await hold(serving)
    # Rows of 4 tokens and, since `sorted` is two of them, of 22.
    waiting = [ask(serving, text) for text in [SHORT, LONG] * 6]
    await queued(serving, 12)
    serving.forward.gate.set()
    await asyncio.gather(first, *waiting)
    return [batch.token_ids.shape for batch in serving.forward.batches[1:]]

  assert run(scenario, max_batch_tokens=70) == shapes


def test_the_oldest_row_goes_first():
  async def scenario(serving):
    first = await hold(serving)
    order = []

    async def note(name, *texts):
      await serving.served.answer(texts)
      order.append(name)

    tasks = []
    for number, text in enumerate([LONG, SHORT, LONG, SHORT]):
      tasks.append(asyncio.create_task(note(number, text)))
      await queued(serving, number + 1)
    serving.forward.gate.set()
    await asyncio.gather(first, *tasks)
    return order

  assert run(scenario) == [0, 2, 1, 3]


def test_rows_wait_for_others_up_to_the_limit():
  async def scenario(serving):
    await asyncio.gather(*(serving.served.answer([SHORT]) for _ in range(4)))
    return serving.forward.rows

  # A full batch does not wait.
  assert run(scenario, max_wait=30, max_batch_rows=4) == [4]


def test_a_client_that_went_away_is_dropped():
  async def scenario(serving):
    first = await hold(serving)
    gone, stays = ask(serving, SHORT, SHORT), ask(serving, SHORT)
    await queued(serving, 3)
    gone.cancel()
    with contextlib.suppress(asyncio.CancelledError):
      await gone
    assert serving.served._queue.rows == 1
    assert serving.metric("queue_rows", model="m") == 1
    serving.forward.gate.set()
    await asyncio.gather(first, stays)
    assert serving.core.pending == 0
    return serving.forward.rows

  assert run(scenario) == [1, 1]


def test_nothing_is_computed_after_the_deadline():
  async def scenario(serving):
    past = ask(serving, SHORT, deadline=time.monotonic() - 1)
    with pytest.raises(ServingError) as never:
      await past
    first = await hold(serving)
    late = ask(serving, SHORT, deadline=time.monotonic() + 0.02)
    with pytest.raises(ServingError) as expired:
      await late
    serving.forward.gate.set()
    await first
    codes = [x.value.code for x in (never, expired)]
    return codes, expired.value.status, serving.forward.rows

  assert run(scenario) == (["deadline_exceeded"] * 2, 504, [1])


def test_a_full_queue_refuses_the_whole_request_before_any_work():
  async def scenario(serving):
    first = await hold(serving)
    waiting = ask(serving, *[SHORT] * 6)
    await queued(serving, 6)
    with pytest.raises(ServingError) as refused:
      await serving.served.answer([SHORT] * 3)
    fits = ask(serving, SHORT, SHORT)
    await queued(serving, 8)
    serving.forward.gate.set()
    await asyncio.gather(first, waiting, fits)
    # An empty queue takes any request.
    assert len(await serving.served.answer([SHORT] * 20)) == 20
    assert serving.served._queue.rows == serving.served._queue.tokens == 0
    return refused.value

  error = run(scenario, max_queue_rows=8)
  assert (error.code, error.status) == ("overloaded", 429)
  assert int(error.headers["Retry-After"]) >= 1


def test_rows_that_waited_too_long_are_refused():
  async def scenario(serving):
    first = await hold(serving)
    late = ask(serving, SHORT)
    await queued(serving, 1)
    ((row,),) = serving.served._queue._waiting.values()
    row.job.arrival -= 2000
    serving.forward.gate.set()
    await first
    with pytest.raises(ServingError) as refused:
      await late
    return refused.value.code, serving.forward.rows

  assert run(scenario, queue_timeout=1000.0) == ("overloaded", [1])


def test_a_bad_item_leaves_the_good_ones_their_answers():
  records = [{"text": SHORT}, {"text": 3}, LONG, {}]

  async def scenario(serving):
    found = await serving.served.answer(records, partial=True)
    with pytest.raises(ServingError) as refused:
      await serving.served.answer(records)
    only_bad = await serving.served.answer([{}], partial=True)
    good = await serving.served.answer([SHORT, LONG])
    return found, refused.value, only_bad, good

  found, refused, only_bad, good = run(scenario)
  assert [found[0], found[2]] == good
  for place in (1, 3):
    assert found[place].code == "unprocessable" and found[place].item == place
  assert refused.item == 1 and only_bad[0].item == 0


def test_options_are_checked_and_share_batches():
  async def scenario(serving):
    first = await hold(serving)
    one = ask(serving, SHORT, options={"top_k": 1})
    two = ask(serving, SHORT, options={"top_k": 2})
    wrong = ask(serving, SHORT, options={"top_k": "many"})
    await queued(serving, 3)
    serving.forward.gate.set()
    with pytest.raises(ServingError) as bad_value:
      await wrong
    with pytest.raises(ServingError) as unknown:
      await serving.served.answer([SHORT], options={"colour": 1})
    counts = [len((await task)[0]) for task in (one, two)]
    await first
    return counts, bad_value.value.code, unknown.value.code

  assert run(scenario) == ([1, 2], "unprocessable", "invalid_request")


def test_an_error_of_one_request_is_not_that_of_others(caplog):
  async def scenario(serving):
    first = await hold(serving)
    waiting = [ask(serving, *[SHORT] * n) for n in (1, 3, 1)]
    await queued(serving, 5)
    serving.forward.error = MemoryError("too large")
    serving.forward.error_above = 2
    serving.forward.gate.set()
    await first
    return await asyncio.gather(*waiting, return_exceptions=True)

  one, three, other = run(scenario)
  assert len(one) == len(other) == 1
  assert (three.code, three.status) == ("internal", 500)


def test_vectors_have_the_settings_of_each_request():
  async def scenario(serving):
    embed = serving.served.embed
    plain, normal, cut = await asyncio.gather(
      embed([SHORT]),
      embed([SHORT], normalize=True),
      embed([LONG, SHORT], truncate_dim=2, normalize=True),
    )
    prompted = await embed(["array"], prompt="the ")
    tokens = await serving.served.outputs([SHORT, LONG], "token_embeddings")
    return plain[0], normal[0], cut, prompted[0], tokens

  plain, normal, cut, prompted, tokens = run(scenario)
  np.testing.assert_allclose(normal, plain / np.linalg.norm(plain), rtol=1e-6)
  np.testing.assert_allclose(np.linalg.norm(cut, axis=-1), 1, rtol=1e-6)
  np.testing.assert_array_equal(prompted, plain)
  assert [len(x) for x in tokens] == [4, 22] and LIMIT > 22
  np.testing.assert_allclose(tokens[0].mean(0), plain, rtol=1e-6)


def test_a_version_that_nobody_holds_is_freed():
  async def scenario(serving):
    task = await hold(serving)
    forward = weakref.ref(serving.forward)
    serving.forward.gate.set()
    serving.served, gone = None, weakref.ref(serving.served)
    # The request that it answers still holds it.
    assert gone() is not None
    await task
    del task
    serving.model = serving.forward = None
    while gone() is not None or forward() is not None:
      # The engine's thread may be about to let them go.
      await asyncio.sleep(0.001)
      gc.collect()
    assert serving.core._queues == []

  run(scenario)


def test_stopping_answers_what_waits():
  async def scenario(serving):
    first, waiting = await hold(serving), ask(serving, SHORT)
    await queued(serving, 1)
    serving.core.stop()
    found = await asyncio.gather(first, waiting, return_exceptions=True)
    with pytest.raises(ServingError) as refused:
      await serving.served.answer([SHORT])
    return [x.status for x in (*found, refused.value)]

  assert run(scenario) == [503] * 3


def test_what_is_measured():
  async def scenario(serving):
    await serving.served.answer([SHORT, SHORT])
    await asyncio.sleep(0)
    of = {
      "batch_rows_sum": 2,
      "tokenization_duration_seconds_count": 1,
      "queue_duration_seconds_count": 2,
      "inference_duration_seconds_count": 1,
      "queue_rows": 0,
    }
    assert {x: serving.metric(x, model="m") for x in of} == of
    assert serving.metric("tokens_total", model="m", kind="input") == 8
    serving.metrics.request("/predict", "m", 429, 0.1, "overloaded")
    text = serving.metrics.render().decode()
    assert 'request_failures_total{model="m",reason="overloaded"} 1.0' in text
    assert "process_resident_memory_bytes" in text

  run(scenario)


def test_compiled_shapes_are_tried_out_before_they_are_used():
  async def scenario(serving):
    served = serving.served
    served._shapes = served._queue.shapes = batching.compiled_shapes(4, LIMIT)
    served.try_out([{"text": SHORT}])
    warmed = {x.token_ids.shape for x in serving.forward.batches}
    serving.forward.batches.clear()
    texts = [" ".join(["the"] * n) for n in (1, 5, 20, 30)]
    await served.answer(texts * 3)
    used = {x.token_ids.shape for x in serving.forward.batches}
    assert used <= warmed == {(r, n) for r in (1, 4) for n in (16, 32)}
    serving.forward.bias = np.nan
    with pytest.raises(UserError, match="not finite"):
      served.try_out([{"text": SHORT}])

  run(scenario, max_batch_rows=4)


def test_a_batch_is_a_span_that_is_linked_to_its_requests():
  trace = pytest.importorskip("opentelemetry.trace")
  spans = []

  class Tracer(trace.NoOpTracer):
    def start_span(self, name, *arguments, **given):
      spans.append((name, len(given["links"]), dict(given["attributes"])))
      return trace.INVALID_SPAN

  class Provider:
    def get_tracer(self, name):
      return Tracer()

  async def scenario(serving):
    first = await hold(serving)
    waiting = [ask(serving, SHORT), ask(serving, SHORT, SHORT)]
    await queued(serving, 3)
    serving.forward.gate.set()
    await asyncio.gather(first, *waiting)

  tracing.use(Provider())
  try:
    run(scenario)
  finally:
    tracing.use(None)
  assert spans[1] == ("batch", 2, {"rows": 3, "tokens": 12})
