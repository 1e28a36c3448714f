"""Texts that are written from a source."""

import contextlib
import dataclasses
import sys

import jax
import numpy as np
import pytest
import scipy.special

import bert_jax
from bert_jax.cluster import interruption
from bert_jax.cluster.interruption import Interrupted
from bert_jax.data import grouping
from bert_jax.model import Model
from bert_jax.settings import UserError
from bert_jax.tasks.inputs.source import Source
from bert_jax.tasks.metrics import texts
from bert_jax.tasks.targets.next_tokens import NextTokens, Written
from bert_jax.training import evaluation, workdir
from bert_jax.training.mesh import meshes
from bert_jax.training.recipe import Recipe
from tests import pytrees, small
from tests.errors import user_error
from tests.tasks import cases, learnable

CLS, SEP, MASK = (
  getattr(small.tokenizer().special, name) for name in ("cls", "sep", "mask")
)


def ids(text):
  (pieces,) = small.tokenizer().encode_pieces([text])
  return pieces


def make(length=32, inputs=None, **options):
  return cases.task(
    "generation", inputs or Source(length), masked_lm=NextTokens(**options)
  )


def example(record, **options):
  (found,) = make(**options).preprocess(record, labelled=True)
  return found


PAIR = {"text": "the list is", "target": "it sorts them"}


def test_a_causal_row_is_the_source_and_stage_after_stage_the_target():
  found = example(PAIR)
  target = ids("it sorts them")
  assert found.token_ids.tolist() == [
    *(CLS, *ids("the list is"), SEP),
    *(*target, SEP),
  ]
  size = len(target) + 1
  assert found.stage_ids.tolist() == [0] * 5 + [*range(1, size + 1)]
  assert found.position_ids.tolist() == [*range(5 + size)]
  assert found.segment_ids.tolist() == [0] * 5 + [1] * size
  assert found.sequence_ids.tolist() == [1] * (5 + size)
  # The place before predicts, from the end of the source on.
  places = found.targets["masked_lm/positions"]
  assert places.tolist() == [*range(4, 4 + size)]
  assert found.targets["masked_lm/ids"].tolist() == [*target, SEP]
  assert found.targets["masked_lm/weights"].tolist() == [1] * size


def test_masked_copies_predict_at_the_places_of_their_tokens():
  causal, found = example(PAIR), example(PAIR, objective="masked")
  size = causal.token_ids.size - 5
  for name in ("token_ids", "stage_ids", "position_ids"):
    own, expected = (getattr(x, name).tolist() for x in (found, causal))
    copies = {
      "token_ids": [MASK] * size,
      "stage_ids": [-n for n in range(1, size + 1)],
      "position_ids": [*range(5, 5 + size)],
    }
    assert own == [*expected, *copies[name]]
  places = found.targets["masked_lm/positions"]
  assert places.tolist() == [*range(5 + size, 5 + 2 * size)]
  assert found.targets["masked_lm/ids"].tolist() == [*ids(PAIR["target"]), SEP]


def test_a_target_may_count_its_positions_from_the_start():
  continued = example(PAIR, objective="masked")
  found = example(PAIR, objective="masked", positions="restarted")
  is_target = continued.stage_ids != 0
  moved = continued.position_ids - found.position_ids
  assert set(moved[~is_target]) == {0}
  assert set(moved[is_target]) == {(~is_target).sum() - 1}
  np.testing.assert_array_equal(continued.token_ids, found.token_ids)


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_a_token_is_predicted_from_the_source_and_the_tokens_before(objective):
  task = make(objective=objective)
  params = pytrees.of_task(task)
  apply = jax.jit(lambda batch: task.module.apply({"params": params}, batch))

  def logits(record):
    (made,) = task.preprocess(record, labelled=True)
    batch = grouping.pad([made], task.axes, grow=lambda _: 24)
    (found,) = apply(batch)["masked_lm"]
    return found[: made.targets["masked_lm/ids"].size]

  one, other = (
    logits({"text": "the list is", "target": target})
    for target in ("a list of names", "a list in place")
  )
  # The words from the third on differ, and so all that is predicted after it.
  np.testing.assert_allclose(one[:3], other[:3], atol=1e-5)
  assert (abs(one[3:] - other[3:]).max(-1) > 1e-3).all()
  changed = logits({"text": "the array is", "target": "a list of names"})
  assert (abs(one - changed).max(-1) > 1e-3).all()


def test_turns_are_joined_by_the_separator_and_the_oldest_are_cut():
  turns = ["the list", "it sorts", "a place"]
  (found,) = make().preprocess({"turns": turns})
  assert found.token_ids.tolist() == [
    *(CLS, *ids("the list"), SEP, *ids("it sorts"), SEP),
    *(*ids("a place"), SEP),
  ]
  assert found.stage_ids is None
  (short,) = make(10, max_target_length=4).preprocess({"turns": turns})
  assert short.token_ids.tolist() == [
    *(CLS, ids("sorts")[-1], SEP, *ids("a place"), SEP)
  ]


@pytest.mark.parametrize(
  ("keep", "kept"), [("", [0, 1, 2]), ("start", [0, 1, 2]), ("end", [3, 4, 5])]
)
def test_a_long_text_is_cut_where_the_config_says(keep, kept):
  words = "the array is in place of"
  task = make(inputs=Source(9, keep=keep), max_target_length=4)
  (row,) = task.rows({"text": words, "target": "a " * 9}, labelled=True)
  tokens = row.example.token_ids.tolist()
  assert tokens[:5] == [CLS, *(ids(words)[i] for i in kept), SEP]
  assert tokens[5:] == [*ids("a a a"), SEP]
  assert [tuple(cut) for cut in row.cuts] == [("text", 6, 3), ("target", 9, 3)]


def test_targets_leave_room_to_sources():
  assert make(16)._room == 8
  assert dataclasses.replace(make(), inputs=Source(300))._room == 16
  assert NextTokens().room(8192) == 128
  with user_error("max_target_length: 14 leaves no room for a source"):
    make(16, max_target_length=14).preprocess(PAIR)


def test_special_tokens_alone_are_no_source():
  tokenizer = small.tokenizer().with_split_special_tokens(False)
  task = make().bind(cases.ENCODER, tokenizer)
  with user_error(r"'text' is empty; expected a text, got '\[SEP\] \[MASK\]',"):
    task.preprocess({"text": "[SEP] [MASK]"})
  with user_error("the field 'target' has no tokens"):
    task.preprocess({"text": "a", "target": "\x01"}, labelled=True)


def test_a_mask_is_a_gap_if_the_config_says_so():
  text = {"text": "the [MASK] sorts"}
  (plain,) = make().preprocess(text)
  assert MASK not in plain.token_ids
  (gap,) = make(inputs=Source(32, masks=True)).preprocess(text)
  assert gap.token_ids.tolist() == [
    *(CLS, *ids("the"), MASK, *ids("sorts"), SEP)
  ]


def test_what_is_cut_is_counted_or_an_error_with_its_place(tmp_path):
  rows = [
    {"text": "the list " * n, "target": "a " * (2 * n - 1)} for n in (1, 4, 6)
  ]
  options = {"max_length": 12, "masked_lm": {"max_target_length": 4}}
  _, data = cases.fit(tmp_path, "generation", rows, **options)
  assert data.notes[1:] == (
    "text is cut in 2 of 3 training records, by 4 tokens in the mean",
    "target is cut in 2 of 3 training records, by 6 tokens in the mean",
  )
  with user_error(r"train\.jsonl:2: the field 'text' has 8 tokens, of which 6"):
    cases.fit(tmp_path, "generation", rows, too_long="fail", **options)
  with pytest.raises(UserError, match="too_long: expected cut or fail, got"):
    cases.fit(tmp_path, "generation", rows, too_long="x", **options)


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_rows_are_counted_as_they_are_computed(tmp_path, objective):
  options = {"objective": objective, "max_target_length": 4}
  rows = [PAIR] * 3
  _, data = cases.fit(
    tmp_path, "generation", rows, max_length=12, masked_lm=options
  )
  assert data.predictions == 4
  assert data.max_length == 5 + (8 if objective == "masked" else 4)
  batch = data.training(2, 0, None).batch(0, range(2))
  assert batch.token_ids.shape == (2, 13 if objective == "masked" else 12)
  assert batch.targets["masked_lm/ids"].shape == (2, 4)


def test_what_is_measured_while_training_is_the_likelihood_of_the_gold_text():
  target = NextTokens(label_smoothing=0.1)
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 3, 5)).astype(np.float32)
  arrays = {
    "ids": np.array([[1, 2, 3], [4, 0, 0]]),
    "weights": np.array([[1, 1, 1], [1, 0, 0]], np.float32),
  }
  measured, loss = jax.jit(
    lambda x: (
      target.measured(x, arrays, None),
      target.loss(x, arrays, None)["loss"].value(),
    )
  )(logits)
  likelihoods = target.predict(measured, None, [{}, {}], None)
  found = target.evaluate([{}, {}], likelihoods)
  chosen = scipy.special.log_softmax(logits, axis=-1)[
    [0, 0, 0, 1], [0, 1, 2, 0], [1, 2, 3, 4]
  ]
  assert found["perplexity"] == pytest.approx(np.exp(-chosen.mean()), rel=1e-5)
  right = logits.argmax(-1)[[0, 0, 0, 1], [0, 1, 2, 0]] == np.array(
    [1, 2, 3, 4]
  )
  assert found["token_accuracy"] == pytest.approx(right.mean())
  # The loss to be learned is smoothed; perplexity is not.
  smooth = scipy.special.log_softmax(logits, axis=-1).mean(-1)
  smooth = smooth[[0, 0, 0, 1], [0, 1, 2, 0]]
  assert loss == pytest.approx(-(0.9 * chosen + 0.1 * smooth).mean(), rel=1e-5)


# Answers.


def test_what_is_streamed_is_what_a_call_writes():
  model, record = cases.model("generation"), cases.RECORDS["generation"]
  options = {"do_sample": True, "seed": 7, "max_new_tokens": 5}
  (drawn,) = model(record, **options)
  assert "".join(model.stream(record, **options)) == drawn.text
  assert 0 < len(drawn.text.split()) <= 5
  with user_error("num_beams: what is streamed is one text, without beams"):
    list(model.stream(record, num_beams=2))
  with user_error("the task classification does not write"):
    list(cases.model("classification").stream("a"))


def test_several_texts_are_ordered_and_options_are_checked():
  model, record = cases.model("generation"), cases.RECORDS["generation"]
  options = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 4}
  found = model(record, **options)
  assert len(found) == 2
  assert found[0].score >= found[1].score
  # The gold text is not read.
  assert model({**record, "target": "a list"}, **options) == found
  for options, message in (
    ({"temperature": 0.0}, "temperature: expected a number above 0"),
    ({"num_beams": 13}, "num_beams: 13 beams need a vocabulary of at least 26"),
    ({"max_new_tokens": 30}, "30 tokens after position 12 are more than"),
    ({"beams": 2}, "option: unknown 'beams'"),
    ({"top_p": "a"}, "top_p: expected float"),
  ):
    with user_error(message):
      model(record, **options)


def test_a_part_of_a_multi_task_model_is_loaded_to_write(tmp_path):
  data = learnable.data(tmp_path, "multi_task")
  names = ("classification", "generation")
  data["tasks"] = learnable.parts(tmp_path, names=names)
  config = learnable.recipe(tmp_path, "classification")
  recipe = Recipe.from_dict(config | {"task": "multi_task", "data": data})
  task, data = recipe.make_task()
  params = jax.device_put(pytrees.of_task(task))
  mesh = meshes.make_mesh(meshes.MeshConfig())
  values, tuned = evaluation.make(task, data, mesh, 4, None)(params)
  assert {"gener/perplexity", "gener/loss", "class/accuracy"} <= {*values}
  assert "gener/token_accuracy_unigram_baseline" in values
  workdir.save(tuned, params, tmp_path / "run")
  both = bert_jax.load(tmp_path / "run")
  with user_error("the task gener writes, .* load it alone, with task='gener'"):
    both({"text": "a list", "task": "gener"})
  one = bert_jax.load(tmp_path / "run", "gener")
  assert isinstance(one("a list")[0].text, str)


def test_an_interrupted_run_ends_in_the_same_bits(tmp_path, monkeypatch):
  targets = {"masked_lm": {"objective": "masked", "max_target_length": 4}}
  options = {"data__targets": targets, "model__hidden_dropout": 0.1}
  config = learnable.recipe(tmp_path, "generation", steps=4, **options)
  learnable.train(config, tmp_path / "once")
  with monkeypatch.context() as patch, pytest.raises(Interrupted):
    stop = contextlib.nullcontext(lambda step: step == 2)
    patch.setattr(interruption, "watch", lambda: stop)
    learnable.train(config, tmp_path / "twice")
  learnable.train(config, tmp_path / "twice")
  one, other = (bert_jax.load(tmp_path / x) for x in ("once", "twice"))
  assert one.task.state() == other.task.state()
  jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


def test_a_folder_of_a_masked_language_model_writes(tmp_path):
  bert_jax.save(cases.model("masked_lm"), tmp_path / "plain")
  assert bert_jax.load(tmp_path / "plain").task.name == "masked_lm"
  model = bert_jax.load(tmp_path / "plain", "generation")
  assert model.task.targets["masked_lm"] == NextTokens()
  trained = make(objective="masked", max_target_length=9)
  inputs = dataclasses.replace(trained.inputs, keep="end", masks=True)
  trained = dataclasses.replace(trained, inputs=inputs)
  bert_jax.save(Model(trained, model.params), tmp_path / "trained")
  again = bert_jax.load(tmp_path / "trained")
  assert again.task.targets == trained.targets
  assert again.task.inputs == inputs
  bert_jax.save(cases.model("classification"), tmp_path / "other")
  with user_error("has no masked_lm, the head that writes text; train one"):
    bert_jax.load(tmp_path / "other", "generation")


# Metrics.


def test_the_best_texts_go_to_the_metrics_in_their_order(monkeypatch):
  given = []
  monkeypatch.setattr(texts, "evaluate", lambda *x: given.append(x) or {})
  records = [{"text": "a", "target": "the list"}, {"text": "b", "target": "it"}]
  written = [
    Written(["a list", "no"], [-1.0, -2.0], [True, True]),
    Written(["it"], [-1.0], [True]),
  ]
  NextTokens().evaluate(records, written)
  assert given == [(["the list", "it"], ["a list", "it"])]


def test_metrics_of_texts():
  gold = ["the list is in place", "it sorts them"]
  found = texts.evaluate(gold, ["the list is in a place", "it  sorts them"])
  assert next(iter(found)) == "bleu"
  assert found["exact_match"] == 0.5
  assert found["distinct1"] == 1.0
  assert 0 < found["rouge2"] < found["rouge1"] < 1
  # As CodeXGLUE's evaluator computes it, but for 1 word and 1 match more.
  assert found["bleu_whitespace"] == pytest.approx(68.87, abs=0.3)
  assert texts.distinct(["a a a"], 2) == 0.5
  assert "tok:none" in texts.signatures()["bleu_whitespace"]
  worst = NextTokens().view(
    [{"turns": ["a", "b"], "target": gold[0]}] * 2,
    [Written([gold[0]], [0.0], [True]), Written(["no"], [0.0], [False])],
  )
  assert [row["written"] for row in worst.mistakes] == ["no"]
  assert [row["written"] for row in worst.best] == [gold[0], "no"]


def test_without_the_libraries_there_is_a_line(monkeypatch):
  monkeypatch.setitem(sys.modules, "sacrebleu", None)
  with user_error(r"sacrebleu\); run pip install 'bert_jax\[generation\]'"):
    texts.check_installed()
