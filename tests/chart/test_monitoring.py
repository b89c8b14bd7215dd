"""Alerts and dashboard of the chart: what they ask for exists, Prometheus' own tool reads them, and every alert has a runbook."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

from tests.chart.test_chart import CHART, REPO, render

RUNBOOKS = REPO / "docs" / "runbooks.md"
DASHBOARD = CHART / "files" / "dashboard.json"


@pytest.fixture(scope="module")
def promtool() -> str:
    """Of the machine, or of Debian's package, which is only unpacked."""
    cache = pathlib.Path(os.environ.get("FLOE_CACHE", pathlib.Path.home() / ".cache" / "floe")) / "bin"
    found = shutil.which("promtool") or shutil.which("promtool", path=cache)
    if found:
        return found
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        pytest.skip("no promtool, and no Debian to get it from")
    unpacked = cache / "prometheus"
    unpacked.mkdir(parents=True, exist_ok=True)
    # As root, apt would rather fetch as a user of its own, who may not write here.
    options = ["-q", "-o", "APT::Sandbox::User=root"]
    got = subprocess.run(["apt-get", *options, "download", "prometheus"], cwd=unpacked, capture_output=True, text=True)
    if got.returncode != 0:
        subprocess.run(["apt-get", "-q", "update"], check=True, capture_output=True)
        subprocess.run(["apt-get", *options, "download", "prometheus"], cwd=unpacked, check=True, capture_output=True)
    (package,) = unpacked.glob("prometheus_*.deb")
    subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True)
    tool = unpacked / "usr" / "bin" / "promtool"
    (cache / "promtool").unlink(missing_ok=True)
    (cache / "promtool").symlink_to(tool)
    return str(tool)


def rules(tmp_path: pathlib.Path) -> list[dict]:
    documents = render(tmp_path, {"metrics": {"rules": {"enabled": True}}})
    (found,) = [document for document in documents if document["kind"] == "PrometheusRule"]
    return found["spec"]["groups"]


def dashboard_queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def metrics_that_exist() -> set[str]:
    """By the code that registers them: with the suffixes that Prometheus' formats add."""
    names: set[str] = set()
    operator = (REPO / "operator" / "src" / "metrics.rs").read_text()
    for name in re.findall(r'register\(\s*"(\w+)"', operator):
        plain = f"floe_operator_{name}"
        names |= {plain, f"{plain}_total", f"{plain}_bucket", f"{plain}_count", f"{plain}_sum"}
    for path in ("coordinator", "worker"):
        names |= set(re.findall(r'"(floe_\w+)"', (REPO / "runner" / "src" / path / "metrics.rs").read_text()))
    return names


def test_prometheus_reads_the_alerts_and_the_dashboard(promtool, tmp_path):
    made = {"groups": rules(tmp_path)}
    queries = [{"record": f"panel:{at}", "expr": expr} for at, expr in enumerate(dashboard_queries())]
    made["groups"].append({"name": "dashboard", "rules": queries})
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(made))
    checked = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_alerts_fire_and_do_not(promtool, tmp_path):
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": rules(tmp_path)}))

    def silent(series: dict[str, str], at: str, alert: str) -> dict:
        return {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "alert_rule_test": [{"eval_time": at, "alertname": alert, "exp_alerts": []}],
        }

    def run(cases: list[dict]) -> subprocess.CompletedProcess:
        path = tmp_path / "cases.yaml"
        path.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": cases}))
        return subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, cwd=tmp_path)

    leads, waits = "floe_operator_leader{pod='a'}", "floe_operator_queries{phase='Starting',reason='Quota'}"
    failed = "floe_operator_query_duration_seconds_count{phase='Failed'}"
    succeeded = "floe_operator_query_duration_seconds_count{phase='Succeeded'}"
    cases = [
        silent({leads: "0x20", "floe_operator_leader{pod='b'}": "1x20"}, "15m", "FloeOperatorDoesNotWork"),
        silent({waits: "2x60"}, "20m", "FloeQueriesWaitForQuota"),
        silent({waits: "2x20 0x40"}, "50m", "FloeQueriesWaitForQuota"),
        silent({failed: "0+1x60", succeeded: "0+9x60"}, "50m", "FloeQueriesFail"),
        silent({failed: "0+0.1x60", succeeded: "0x60"}, "50m", "FloeQueriesFail"),
    ]
    fires = [
        ({leads: "0x20"}, "15m", "FloeOperatorDoesNotWork"),
        ({waits: "2x60"}, "40m", "FloeQueriesWaitForQuota"),
        ({failed: "0+1x60", succeeded: "0+1x60"}, "50m", "FloeQueriesFail"),
    ]
    told = run(cases)
    assert told.returncode == 0, told.stdout + told.stderr
    for series, at, alert in fires:
        # A test that expects nothing fails, and says what fired.
        told = run([silent(series, at, alert)])
        assert told.returncode != 0 and alert in told.stdout + told.stderr, (alert, told.stdout, told.stderr)


def test_they_ask_for_metrics_that_exist(tmp_path):
    known = metrics_that_exist()
    asked = dashboard_queries() + [rule["expr"] for group in rules(tmp_path) for rule in group["rules"]]
    for expr in asked:
        for name in re.findall(r"\bfloe_\w+", expr):
            assert name in known, f"{name} of {expr} is no metric"


def test_every_alert_has_its_runbook(tmp_path):
    sections = set(re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), re.MULTILINE))
    alerts = {rule["alert"]: rule["annotations"] for group in rules(tmp_path) for rule in group["rules"]}
    assert sections == set(alerts)
    for alert, annotations in alerts.items():
        assert annotations["runbook_url"].endswith(f"docs/runbooks.md#{alert.lower()}")
        assert annotations["summary"] and annotations["description"]
