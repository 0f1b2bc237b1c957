"""Cells on a Ray cluster of two nodes, all on this machine."""

from __future__ import annotations

import time

import pytest
from rich.console import Console

from fewshot_ns.bench.execution.cells import Outcome, WorkerResources
from fewshot_ns.bench.execution.estimate import Estimator
from fewshot_ns.bench.execution.progress import Board
from fewshot_ns.bench.execution.ray_cluster import RayExecutor, cluster_workers, connect
from fewshot_ns.bench.planning.planner import make_plan
from fewshot_ns.bench.recipes.yaml_file import load_recipe

pytest.importorskip("ray")


@pytest.fixture
def cluster(monkeypatch):
    """The module ray, connected to two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    ray = connect(nodes.address)
    yield ray
    ray.shutdown()
    nodes.shutdown()


def test_cells_are_spread_over_the_nodes_and_one_that_breaks_stops_none(cluster, write_recipe, data_root, tmp_path):
    def run(cell, output_dir, resources, any_source):
        import ray

        if cell.seed == 3:
            raise MemoryError("no more")
        cell.folder.mkdir(parents=True)
        (cell.folder / "node").write_text(ray.get_runtime_context().get_node_id())
        # A node has one CPU, so both of these can be at work together only on two nodes.
        both = [cell.folder.with_name(f"seed-{seed}") / "node" for seed in (0, 1)]
        deadline = time.monotonic() + 120
        while cell.seed < 2 and not all(path.is_file() for path in both) and time.monotonic() < deadline:
            time.sleep(0.1)
        return Outcome(cell.name, "finished", float(resources.threads))

    plan = make_plan(load_recipe(write_recipe(seeds=[0, 1, 2, 3])), data_root, tmp_path / "out", "cpu")
    resources = WorkerResources(1)
    assert cluster_workers(cluster, resources, "cpu") == 2
    board = Board(Console(quiet=True), plan.cells, Estimator(plan), 2)
    outcomes = RayExecutor(cluster, resources, run=run).execute(plan.cells, tmp_path / "out", board)
    assert [outcomes[cell.name].status for cell in plan.cells] == ["finished"] * 3 + ["failed"]
    assert "no more" in outcomes[plan.cells[3].name].error
    nodes = [(cell.folder / "node").read_text() for cell in plan.cells[:3]]
    assert nodes[0] != nodes[1] and outcomes[plan.cells[0].name].seconds == 1.0


@pytest.mark.slow
def test_real_cells_on_two_nodes(cluster, write_recipe, data_root, tmp_path):
    plan = make_plan(load_recipe(write_recipe(seeds=[0, 1])), data_root, tmp_path / "out", "cpu")
    board = Board(Console(quiet=True), plan.cells, Estimator(plan), 2)
    outcomes = RayExecutor(cluster, WorkerResources(1)).execute(plan.cells, tmp_path / "out", board)
    assert [(outcome.status, outcome.error) for outcome in outcomes.values()] == [("finished", "")] * 2
    assert all((cell.folder / "eval.json").is_file() for cell in plan.cells)
