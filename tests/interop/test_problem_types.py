"""Sequence-classification heads: `problem_type`, labels and scales."""

import dataclasses
import json

import numpy as np
import pytest

import bert_jax
from tests.errors import user_error
from tests.interop import folders

PROBLEMS = {
  "classification": "single_label_classification",
  "multi_label": "multi_label_classification",
  "regression": "regression",
}


@pytest.mark.parametrize(("task", "problem"), PROBLEMS.items())
def test_the_problem_type_selects_the_task(tmp_path, task, problem):
  bert_jax.save(folders.model("bert", task), tmp_path / "a")
  config = json.loads((tmp_path / "a" / "config.json").read_text())
  assert config["problem_type"] == problem
  assert config["architectures"] == ["BertForSequenceClassification"]
  assert bert_jax.load(tmp_path / "a").task.name == task


@pytest.mark.parametrize(
  ("task", "expected"),
  [("regression", "regression"), ("multi_label", "classification")],
)
def test_without_a_problem_type_one_label_is_a_regression(
  tmp_path, task, expected
):
  bert_jax.save(folders.model("bert", task), tmp_path / "a")
  gone = {"problem_type": None, "sentence_transformers": "gone"}
  folders.change_config(tmp_path / "a", **gone)
  assert bert_jax.load(tmp_path / "a").task.name == expected


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"problem_type": "other"}, "problem_type: unknown 'other'; known: multi"),
    ({"problem_type": 3}, "problem_type: unknown '3'"),
    ({"id2label": {"0": "a", "1": "a"}}, "labels: expected no name twice"),
    ({"thresholds": [0.5]}, "thresholds: expected 2, one a label, got 1"),
    ({"thresholds": "high"}, "thresholds: expected float, got 'high'"),
  ],
)
def test_malformed_head_configs_are_refused(tmp_path, changes, message):
  bert_jax.save(folders.model("bert", "multi_label"), tmp_path / "a")
  folders.change_config(tmp_path / "a", **changes)
  with user_error(message):
    bert_jax.load(tmp_path / "a")


def with_target(model, **changes):
  """The model with other fields of its only target."""
  ((name, target),) = model.task.targets.items()
  target = dataclasses.replace(target, **changes)
  task = model.task.with_targets({name: target}).bind(
    model.config, model.tokenizer
  )
  return dataclasses.replace(model, task=task)


def test_regression_scales_are_folded_into_the_saved_head(tmp_path):
  given = folders.model("bert", "regression")
  scaled = with_target(given, means=(-3.0,), scales=(50.0,))
  bert_jax.save(scaled, tmp_path / "theirs")
  again = bert_jax.load(tmp_path / "theirs")
  assert again.task.targets == given.task.targets
  texts = ["a list", "it sorts names in place"]
  expected = [row[0].value for row in scaled(texts)]
  assert expected[0] != expected[1]
  found = [row[0].value for row in again(texts)]
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  bert_jax.save(scaled, tmp_path / "ours", "bert_jax")
  folders.assert_same(bert_jax.load(tmp_path / "ours"), scaled)
