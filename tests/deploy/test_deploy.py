"""The files for running a server: what they name exists, and they agree."""

import dataclasses
import itertools
import json
import pathlib
import re
import shutil
import subprocess
import tomllib

import pytest
import yaml

from bert_jax.serving.metrics import Metrics
from bert_jax.serving.settings import ServeSettings
from tests.commands import ROOT, python

DEPLOY = ROOT / "launch" / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
# Labels that Prometheus adds.
ADDED = {"job", "instance", "namespace", "pod", "le"}
SETTINGS = ServeSettings(models={"m": "m"})
LONGEST_STOP = SETTINGS.drain_delay + SETTINGS.drain_timeout


def documents(path):
  return [x for x in yaml.safe_load_all(path.read_text()) if x]


def dashboard():
  return json.loads((DEPLOY / "grafana/dashboards/bert_jax.json").read_text())


def dashboard_queries():
  board = dashboard()
  for panel in board["panels"]:
    yield from (target["expr"] for target in panel["targets"])
  for variable in board["templating"]["list"]:
    yield from re.findall(r"label_values\((.+), \w+\)", str(variable["query"]))
  yield from (x["expr"] for x in board["annotations"]["list"])


def alerts():
  (group,) = documents(DEPLOY / "prometheus/alerts.yml")[0]["groups"]
  return group["rules"]


def adapter_queries():
  (rule,) = documents(DEPLOY / "kubernetes/prometheus_adapter.yaml")[0][
    "rules"
  ]["custom"]
  series = re.match(r"\w+", rule["seriesQuery"])[0]
  yield rule["seriesQuery"]
  query = rule["metricsQuery"]
  for name, value in {
    "Series": series,
    "GroupBy": "pod",
    "LabelMatchers": "",
  }.items():
    query = query.replace(f"<<.{name}>>", value)
  yield query


def exposed():
  """The series that a server exposes, with their labels."""
  metrics = Metrics()
  metrics.of_model("m")
  metrics.request("/embed", "m", 500, 0.1, "internal")
  metrics.serves("m", "1", "onnx", True)
  metrics.updated("m", "refused")
  found = {"up": set(), "ALERTS": {"alertname", "alertstate"}}
  for line in metrics.render().decode().splitlines():
    if not line.startswith("#"):
      name, labels = re.match(r"(\w+)(?:\{(.*)\})? ", line).groups()
      found[name] = set(re.findall(r'(\w+)="', labels or ""))
  return found


def test_queries_name_series_and_labels_of_the_server():
  known = exposed()
  queries = [*dashboard_queries(), *(x["expr"] for x in alerts())]
  used = set()
  for query in itertools.chain(queries, adapter_queries()):
    names = re.findall(r"\b(bert_jax_\w+|process_\w+|up|ALERTS)\b", query)
    names = [x for x in names if f'"{x}"' not in query]
    assert names, query
    for name in names:
      assert name in known, query
      used.add(name)
    of_all = set.union(*(known[name] for name in names)) | ADDED
    matchers = re.findall(r"\{(.*?)\}", query, re.DOTALL)
    labels = re.findall(r"(\w+) *(?:=~|!~|!=|=)", ",".join(matchers))
    for grouped in re.findall(r"(?:by|on) \(([^<>()]*)\)", query):
      labels += [x for x in re.split("[, ]+", grouped) if x]
    assert set(labels) <= of_all, (query, set(labels) - of_all)
  # The dashboard or an alert shows everything that the server measures.
  ends = "_(bucket|sum|count|total|created)$"
  measured = {re.sub(ends, "", x) for x in known if x.startswith("bert_jax_")}
  assert measured <= {re.sub(ends, "", x) for x in used}


def test_dashboard_is_whole():
  board = dashboard()
  panels = board["panels"]
  assert len({panel["id"] for panel in panels}) == len(panels)
  for panel in panels:
    assert panel["title"] and panel["description"].endswith(".")
    assert panel["type"] in {"stat", "timeseries"}
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert all(target["legendFormat"] for target in panel["targets"])
  cells = [
    (x, y)
    for panel in panels
    for place in [panel["gridPos"]]
    for x in range(place["x"], place["x"] + place["w"])
    for y in range(place["y"], place["y"] + place["h"])
  ]
  assert len(set(cells)) == len(cells)
  assert max(x for x, _ in cells) < 24
  names = {x["name"] for x in board["templating"]["list"]}
  variables = set(re.findall(r"\$\{?(\w+)", json.dumps(panels)))
  assert variables - {"__rate_interval"} == names


def test_alerts_say_what_and_how_bad():
  for alert in alerts():
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"]["summary"]
  names = [alert["alert"] for alert in alerts()]
  tested = pathlib.Path(__file__).with_name("alerts.yml").read_text()
  assert all(f"alertname: {name}\n" in tested for name in names)


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool")
@pytest.mark.parametrize(
  "command",
  [
    ["check", "config", "launch/deploy/prometheus/prometheus.yml"],
    ["test", "rules", "tests/deploy/alerts.yml"],
  ],
)
def test_prometheus_accepts(command):
  ran = subprocess.run(
    ["promtool", *command], cwd=ROOT, capture_output=True, text=True
  )
  assert ran.returncode == 0, ran.stdout + ran.stderr


def flags_of(value):
  """The flags in the arguments of containers, wherever they stand."""
  if isinstance(value, dict):
    for one in value.values():
      yield from flags_of(one)
  elif isinstance(value, list):
    for one in value:
      yield from flags_of(one)
  elif isinstance(value, str):
    yield from re.findall(r"^--(\w+)", value, re.MULTILINE)


def test_flags_are_those_of_the_server():
  known = {x.name for x in dataclasses.fields(ServeSettings)} | {
    "model",
    "flagfile",
  }
  paths = [DEPLOY / "compose.yaml", *KUBERNETES]
  used = {x for path in paths for one in documents(path) for x in flags_of(one)}
  used |= set(re.findall(r'"--(\w+)', (DEPLOY / "Dockerfile").read_text()))
  assert {"model", "threads", "tokens", "host", "port"} <= used <= known


def test_compose_mounts_files_and_limits_the_server():
  (compose,) = documents(DEPLOY / "compose.yaml")
  services = compose["services"]
  server = services["server"]
  assert server["read_only"] and server["cap_drop"] == ["ALL"]
  assert int(server["stop_grace_period"].rstrip("s")) >= LONGEST_STOP
  mounts = {}
  for service in services.values():
    assert all(x.startswith("127.0.0.1:") for x in service["ports"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    for volume in service["volumes"]:
      source, target, *_ = re.split(r":(?=/|ro$)", volume)
      mounts[target] = source
      assert not source.startswith("./") or (DEPLOY / source).is_dir()
  named = {x for x in mounts.values() if re.fullmatch(r"\w+", x)}
  assert named == set(compose["volumes"])
  grafana = DEPLOY / "grafana/provisioning"
  (provider,) = documents(grafana / "dashboards/bert_jax.yaml")[0]["providers"]
  assert provider["options"]["path"] in mounts
  (source,) = documents(grafana / "datasources/prometheus.yaml")[0][
    "datasources"
  ]
  variables = {x["name"]: x for x in dashboard()["templating"]["list"]}
  assert variables["datasource"]["current"]["value"] == source["uid"]
  assert source["url"] == "http://prometheus:9090"
  (config,) = documents(DEPLOY / "prometheus/prometheus.yml")
  (job,) = config["scrape_configs"]
  assert job["static_configs"] == [{"targets": ["server:8080"]}]


def test_kubernetes_objects_agree():
  found = {
    one["kind"]: one
    for path in KUBERNETES
    for one in documents(path)
    if "kind" in one
  }
  deployment = found["Deployment"]["spec"]
  pod = deployment["template"]
  labels = pod["metadata"]["labels"]
  assert deployment["selector"]["matchLabels"] == labels
  assert found["Service"]["spec"]["selector"] == labels
  for kind, key in (
    ("PodDisruptionBudget", "selector"),
    ("NetworkPolicy", "podSelector"),
  ):
    assert found[kind]["spec"][key]["matchLabels"] == labels
  target = found["HorizontalPodAutoscaler"]["spec"]
  assert (
    target["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
  )
  metric = target["metrics"][0]["pods"]["metric"]["name"]
  (rule,) = documents(DEPLOY / "kubernetes/prometheus_adapter.yaml")[0][
    "rules"
  ]["custom"]
  assert rule["name"]["as"] == metric
  spec = pod["spec"]
  assert spec["terminationGracePeriodSeconds"] > LONGEST_STOP
  assert spec["securityContext"]["runAsNonRoot"]
  volumes = {x["name"]: x for x in spec["volumes"]}
  assert (
    volumes["flags"]["configMap"]["name"]
    == found["ConfigMap"]["metadata"]["name"]
  )
  secret = found["Secret"]["metadata"]["name"]
  assert volumes["tokens"]["secret"]["secretName"] == secret
  (server,) = spec["containers"]
  assert {x["name"] for x in server["volumeMounts"]} == set(volumes)
  inference = [
    one["spec"]["predictor"]
    for path in KUBERNETES
    for one in documents(path)
    if one.get("kind") == "InferenceService"
  ]
  custom = [x["containers"][0] for x in inference if "containers" in x]
  assert len(inference) == 2 and len(custom) == 1
  for container in (server, custom[0]):
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
  memory = alerts_by_name()["BertJaxMemory"]["expr"]
  assert server["resources"]["limits"]["memory"] == "2Gi"
  assert float(memory.rsplit(" ", 1)[1]) < 0.85 * (2 << 30)


def alerts_by_name():
  return {alert["alert"]: alert for alert in alerts()}


def locked(name):
  """The packages of a list with checksums, by name."""
  text = (DEPLOY / f"{name}.txt").read_text()
  found = re.findall(
    r"^([\w-]+)==(\S+) \\\n((?: +--hash.*\n?)+)", text, re.MULTILINE
  )
  assert len(found) == text.count("==")
  return {package: (version, hashes) for package, version, hashes in found}


def wanted(name):
  lines = (DEPLOY / f"{name}.in").read_text().splitlines()
  return [x for x in lines if x and not x.startswith("#")]


def test_packages_of_the_image_have_checksums():
  for name in ("requirements", "build_requirements"):
    found = locked(name)
    for line in wanted(name):
      assert re.match(r"[\w-]+", line)[0] in found, line
  # Ranges are copied from those of the project.
  project = (ROOT / "pyproject.toml").read_text()
  served = tomllib.loads(project)["project"]["optional-dependencies"]["serve"]
  project += (ROOT / "requirements.txt").read_text()
  lines = wanted("requirements")
  assert {x.split(";")[0] for x in served} <= set(lines)
  for line in lines + wanted("build_requirements"):
    assert line in project, line


def test_image_has_what_the_server_imports():
  """Every package that serving an export imports, and no JAX."""
  code = """
import importlib.metadata, sys
import launch.serve, bert_jax.exported, bert_jax.engines.onnx
import bert_jax.serving.app, bert_jax.serving.protocol
import onnxruntime, tokenizers, httptools
owners = importlib.metadata.packages_distributions()
for name in {name.split(".")[0] for name in sys.modules} & set(owners):
  if getattr(sys.modules[name], "__file__", None):
    print(owners[name][0].lower().replace("_", "-"))
"""
  found = set(python(code).stdout.split()) - {"bert-jax", "setuptools"}
  assert "onnxruntime" in found
  assert found <= set(locked("requirements"))


def test_dockerfile_is_pinned_and_not_root():
  text = (DEPLOY / "Dockerfile").read_text()
  assert text.count("--require-hashes") == 2
  assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", text, re.MULTILINE)
  assert "HEALTHCHECK" in text and "curl" not in text
  ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split("\n")
  copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
  for name in itertools.chain.from_iterable(x.split() for x in copied):
    assert (ROOT / name).exists()
    assert f"!{name.split('/')[0]}" in ignored
