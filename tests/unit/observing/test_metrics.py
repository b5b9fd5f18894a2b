"""The registry: names by Prometheus' rules, labels that stay few."""

from __future__ import annotations

import re
from itertools import count

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harvestd.observing import metrics
from harvestd.terms import Outcome
from tests.write_pages import our_metrics

UNITS = ("_seconds", "_bytes", "_ratio", "_info")
COUNT_NOUNS = {
    "harvestd_runs_due",
    "harvestd_runs_in_progress",
    "harvestd_runs_waiting",
    "harvestd_runs_blocked",
    "harvestd_plugin_problems",
    "harvestd_runs_with_gaps",
    "harvestd_runs_failed",
    "harvestd_runs_stopped",
    "harvestd_tenant_runs_failed",
    "harvestd_database_up",
    "harvestd_seats_in_use",
}
LABELS = {"source", "script", "outcome", "reason", "stage", "executor", "code"}


def test_every_metric_is_named_and_explained_as_prometheus_asks() -> None:
    assert len(our_metrics()) >= 20
    for metric in our_metrics():
        (described,) = metric.describe()
        assert re.fullmatch(r"harvestd_[a-z_]+", described.name)
        assert described.documentation.endswith("."), described.name
        if described.type == "counter":
            assert not described.name.endswith(UNITS), described.name
        else:
            assert described.name.endswith(UNITS) or described.name in COUNT_NOUNS, described.name


def test_labels_are_few_and_a_tenant_is_one_in_its_own_series_only() -> None:
    for metric in our_metrics():
        (described,) = metric.describe()
        # A version is one value a process; an _info series exists to carry it.
        allowed = {"version"} if described.name.endswith("_info") else LABELS
        if described.name.startswith("harvestd_tenant_"):
            allowed = {"tenant"}  # few by TENANT_METRICS_MAX
        assert set(metric._labelnames) <= allowed, described.name


def test_the_exposition_is_what_prometheus_parses() -> None:
    metrics.of_script("git", "commit").runs[Outcome.COMPLETED].inc()
    metrics.of_script("git", "commit").seconds.observe(0.2)
    metrics.BUILD_INFO.labels("0.1.0").set(1)

    body, content_type = metrics.exposition()

    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert {
        "harvestd_runs",
        "harvestd_run_duration_seconds",
        "harvestd_last_cycle_timestamp_seconds",
    } <= set(families)
    assert "process_resident_memory_bytes" in families
    assert not [name for name in families if name.endswith("_created")]
    (completed,) = [
        sample
        for sample in families["harvestd_runs"].samples
        if sample.labels == {"source": "git", "script": "commit", "outcome": "completed"}
    ]
    assert completed.value >= 1


def test_the_children_of_a_script_are_looked_up_once() -> None:
    assert metrics.of_script("git", "tag") is metrics.of_script("git", "tag")
    assert set(metrics.of_script("git", "tag").runs) == set(Outcome)


def test_a_hundred_thousand_names_make_a_bounded_number_of_series(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "SCRIPTS_MAX", len(metrics._scripts) + 10)
    names = (f"source_{number}" for number in count())

    for _, name in zip(range(100_000), names, strict=False):
        metrics.of_script(name, "x").rows.inc()

    body, _ = metrics.exposition()
    assert body.count(b"harvestd_rows_written_total{") <= metrics.SCRIPTS_MAX + 1
    other = metrics.of_script("yet_another", "x")
    assert other is metrics.of_script(metrics.OTHER, metrics.OTHER)
    for number in range(10):
        for metric in (metrics.ROWS, metrics.WINDOWS_TOTAL, metrics.RUN_SECONDS):
            metric.remove(f"source_{number}", "x")
        metrics._scripts.pop((f"source_{number}", "x"))
