"""The dashboard and the alert rules in docs/ name what a relay has, and nothing else."""
import json
import re
import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness import ROOT
from test_admin import admin_relay, get, wait_until

ALERTS, DASHBOARD = f"{ROOT}/docs/alerts.yaml", f"{ROOT}/docs/grafana.json"
OF_PROMETHEUS = {"up"}
OF_SCRAPING = {"instance", "job", "le"}


def expressions():
    """Where, and the PromQL there."""
    with open(ALERTS, encoding="utf-8") as f:
        rules = re.split(r"^ +- alert: ", f.read(), flags=re.M)[1:]
    for rule in rules:
        name, expr = rule.split("\n")[0], re.search(r"^ +expr: (?:\|\n((?: {10}.*\n)+)|(.*)\n)", rule, re.M)
        yield f"alert {name}", expr[1] or expr[2]
    with open(DASHBOARD, encoding="utf-8") as f:
        board = json.load(f)
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield f"panel {panel['title']}", target["expr"]
    for annotation in board["annotations"]["list"]:
        yield "annotation", annotation["expr"]


@pytest.fixture(scope="module")
def exposed(tmp_path_factory):
    """Of each sample's name: its labels with their values."""
    from harness import World
    world = World(tmp_path_factory.mktemp("monitoring"))
    relay = admin_relay(world)
    wait_until(lambda: get(relay, "/readyz").status == 200)
    found = {}
    for family in text_string_to_metric_families(get(relay, "/metrics").body):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for k, v in sample.labels.items():
                labels.setdefault(k, set()).add(v)
    yield found
    world.close()


def test_every_metric_and_label_named_exists(exposed):
    n = 0
    for where, expr in expressions():
        bare = re.sub(r'"[^"]*"', '""', expr)
        names = set(re.findall(r"\b(tunn_\w+|up)\b", bare))
        assert names and names <= set(exposed) | OF_PROMETHEUS, (where, names - set(exposed))
        n += len(names)
        for name, selector in re.findall(r"\b(tunn_\w+)\{([^}]*)\}", expr):
            for label, op, value in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', selector):
                if label in OF_SCRAPING:
                    continue
                assert label in exposed[name], (where, name, label)
                assert all(v in exposed[name][label] for v in value.split("|")), (where, name, value)
        for grouped in re.findall(r"by \(([^)]*)\)", bare):
            labels = {w.strip() for w in grouped.split(",")}
            assert all(label in OF_SCRAPING or any(label in exposed[m] for m in names) for label in labels), (where, labels)
    assert n > 40


def test_what_an_operator_must_hear_of_has_an_alert():
    rules = {where: expr for where, expr in expressions() if where.startswith("alert")}
    for name in ("tunn_ready", "tunn_certificate_days_left", "tunn_packets_dropped_total", "tunn_reload_failures_total",
                 "tunn_usage_write_failures_total", "tunn_connections_turned_away_total", "tunn_log_lines_lost_total", "up"):
        assert any(re.search(rf"\b{name}\b", expr) for expr in rules.values()), name
    with open(ALERTS, encoding="utf-8") as f:
        text = f.read()
    n = text.count("- alert:")
    assert len(rules) == n == text.count("summary:") == text.count("description:") == len(re.findall(r"severity: (warning|critical)", text))


def test_panels_stand_beside_each_other():
    with open(DASHBOARD, encoding="utf-8") as f:
        panels = json.load(f)["panels"]
    taken = set()
    for p in panels:
        g = p["gridPos"]
        places = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        assert not places & taken and g["x"] + g["w"] <= 24, p["title"]
        taken |= places
    assert len({p["id"] for p in panels}) == len({p["title"] for p in panels}) == len(panels)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is in Debian's prometheus (96 MB)")
def test_promtool_finds_nothing_wrong(exposed):
    out = subprocess.run(["promtool", "check", "rules", "--lint-fatal", ALERTS], capture_output=True, text=True, check=False)
    assert out.returncode == 0 and "SUCCESS" in out.stdout, out
