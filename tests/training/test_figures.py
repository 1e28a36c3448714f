"""Meter, logger and report: the figures of a run."""

import json
import time

import jax.numpy as jnp
import pytest

from bert_jax.training import report
from bert_jax.training.logging import open_logger, read_metrics
from bert_jax.training.metrics import Meter
from bert_jax.types import Mean
from tests.errors import user_error


def make_meter(peak=None):
  return Meter(
    learning_rate=lambda step: 0.1 * step,
    flops_per_token=100.0,
    peak_flops=peak,
    max_skipped=2,
  )


def measures(loss, weight=1.0, tokens=40.0, skipped=0):
  return {
    "skipped_updates": Mean(jnp.float32(skipped > 0), jnp.ones(())),
    "skipped_in_a_row": Mean(jnp.asarray(skipped), jnp.ones(())),
    "loss": Mean(jnp.asarray(loss * weight), jnp.asarray(weight)),
    "non_padding_tokens": Mean(jnp.asarray(tokens), jnp.ones(())),
    "positions": Mean(jnp.asarray(50.0), jnp.ones(())),
  }


def test_means_are_weighted_and_the_meter_is_reset():
  meter = make_meter()
  meter.add(measures(1.0, weight=3.0))
  meter.add(measures(5.0, weight=1.0))
  meter.pause()
  values = meter.means(7)
  assert values["loss"] == 2.0
  assert values["learning_rate"] == pytest.approx(0.6)
  assert "mfu" not in values
  meter.resume()
  meter.add(measures(9.0))
  meter.pause()
  assert meter.means(8)["loss"] == 9.0


def test_throughput_counts_non_padding_tokens_and_the_time_of_training_alone():
  began = time.perf_counter()
  meter = make_meter(peak=1e6)
  for _ in range(4):
    meter.add(measures(1.0))
    time.sleep(0.05)
  meter.pause()
  time.sleep(0.5)  # An evaluation.
  values = meter.means(4)
  seconds = 4 / values["steps_per_second"]
  assert 0.2 <= seconds <= time.perf_counter() - began - 0.5
  assert values["non_padding_tokens_per_second"] == pytest.approx(160 / seconds)
  assert values["packing_efficiency"] == pytest.approx(40 / 50)
  assert values["mfu"] == pytest.approx(4 * 50 * 100 / seconds / 1e6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_figure_that_is_not_finite_is_an_error(bad):
  meter = make_meter()
  meter.add(measures(1.0))
  meter.add(measures(bad))
  meter.pause()
  with user_error("loss is not finite at step 2"):
    meter.means(2)


def test_skipped_updates_are_counted_and_too_many_end_the_run():
  meter = make_meter()
  for skipped in (0, 1, 0, 1):
    meter.add(measures(1.0, skipped=skipped))
  meter.pause()
  assert meter.means(4)["skipped_updates"] == 2
  for skipped in (1, 2, 0):
    meter.add(measures(1.0, skipped=skipped))
  meter.pause()
  with user_error("2 updates in a row were skipped"):
    meter.means(7)


def test_an_interval_of_skipped_updates_has_no_loss():
  meter = make_meter()
  meter.add(measures(0.0, weight=0.0, skipped=1))
  meter.pause()
  values = meter.means(1)
  assert "loss" not in values
  assert values["skipped_updates"] == 1


def write_run(folder, steps=(1, 2, 3)):
  with open_logger(folder) as logger:
    logger.start(0, 3)
    for step in steps:
      rates = {
        "steps_per_second": step,
        "non_padding_tokens_per_second": 100 * step,
      }
      logger.write(step, "train", {"loss": 1 / step, **rates})
      logger.write(
        step, "eval", {"loss": 2 / step, "loss_majority_baseline": 3.0}
      )


def test_figures_after_the_checkpoint_are_dropped_since_they_come_again(
  tmp_path,
):
  write_run(tmp_path)
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 3, "spl')  # Killed while it wrote.
  before = read_metrics(tmp_path)
  with open_logger(tmp_path) as logger:
    logger.start(2, 3)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 1, 2, 2]
    logger.write(3, "train", {"loss": 0.5})
  rows = read_metrics(tmp_path)
  assert rows[:-1] == before[:4]
  assert rows[-1]["seconds"] >= before[3]["seconds"]


def test_a_report_sums_up_a_run(tmp_path):
  write_run(tmp_path)
  results = report.report(tmp_path)
  assert json.loads((tmp_path / "results.json").read_text()) == results
  assert results["loss"] == pytest.approx(2 / 3, rel=1e-5)
  assert results["loss_majority_baseline"] == 3.0
  assert results["steps"] == 3
  # One step each at 1, 2 and 3 steps a second.
  assert results["non_padding_tokens_per_second"] == pytest.approx(
    300 / (1 + 1 / 2 + 1 / 3), rel=1e-3
  )


def test_a_report_is_of_the_best_evaluation_by_the_measure_of_the_recipe(
  tmp_path,
):
  values = {0: 0.9, 1: 0.5, 2: 0.7, 3: 0.6}
  with open_logger(tmp_path) as logger:
    logger.start(0, 3)
    logger.write(0, "eval", {"f1": values[0], "loss": 0.0})
    for step in (1, 2, 3):
      rates = {"steps_per_second": 1, "non_padding_tokens_per_second": 100}
      logger.write(step, "train", {"loss": 1.0, **rates})
      logger.write(step, "eval", {"f1": values[step], "loss": 0.1 * step})
  run = {"config": {"evaluation": {"metric": "f1"}}, "data": ""}
  entry = {"task": {}, "model": {}, "vocabulary": None}
  (tmp_path / "bert_jax.json").write_text(json.dumps({**entry, "run": run}))
  results = report.report(tmp_path)
  assert (results["steps"], results["f1"], results["loss"]) == (2, 0.7, 0.2)
  beside = report.report(tmp_path, {"other": tmp_path})
  assert beside["other_f1"] == 0.7


def test_the_table_shows_each_measure_beside_its_baseline(tmp_path, capsys):
  write_run(tmp_path)
  report.print_table(report.report(tmp_path))
  (row,) = [
    line for line in capsys.readouterr().out.splitlines() if " loss " in line
  ]
  assert "0.6667" in row
  assert "3" in row.split("0.6667")[1]


def test_a_folder_without_figures_is_refused(tmp_path):
  with user_error(r"metrics\.jsonl: expected rows"):
    report.report(tmp_path)
