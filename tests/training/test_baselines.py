from bert_jax.training import metrics

VALUES = {
  "rmse": 1.0,
  "rmse_mean": 2.0,
  "rmse_mean_baseline": 3.0,
  "rmse_mean_mean_baseline": 4.0,
  "a/accuracy_majority_baseline": 0.5,
  "a/accuracy": 0.7,
  "accuracy": 0.8,
}


def test_a_baseline_belongs_to_the_measure_whose_name_fits_best():
  assert metrics.without_baselines(VALUES) == [
    "rmse",
    "rmse_mean",
    "a/accuracy",
    "accuracy",
  ]
  assert metrics.baselines_of("rmse_mean", VALUES) == {"mean": 4.0}
  assert metrics.baselines_of("a/accuracy", VALUES) == {"majority": 0.5}
  assert metrics.baselines_of("accuracy", VALUES) == {}
