"""The whole call: a tiny bundle here, the same behind the server; prices first, problems together; tables and picture."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sightline.benchmarking import targets
from sightline.benchmarking.plot import write_plot
from sightline.benchmarking.results import Clients, read
from sightline.benchmarking.run import Asked, benchmark
from sightline.benchmarking.spread import spread
from sightline.benchmarking.text import markdown, text
from sightline.errors import ConfigError, ImageError, MissingDependencyError, SightlineError
from sightline.records import StagedPredict
from sightline.serving.server import running

Make = Callable[..., Any]
QUICK = Asked(samples=6, limit_s=60.0, batch_sizes=(1, 2), clients=(1, 2), start_runs=0)


def test_a_bundle_here(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    said: list[str] = []
    result = benchmark(
        bundle,
        images=pictures,
        output=tmp_path / "out",
        asked=QUICK,
        instance_types=["ml.c5.large"],
        serverless_memory_mb=2048,
        cache=tmp_path,
        say=said.append,
    )
    assert list(result.stages) == ["read", "decode", "resize", "model", "post", "encode"]
    assert result.latency.count == 6
    assert sum(one.mean for one in result.stages.values()) == pytest.approx(result.latency.mean)
    assert [batch.size for batch in result.batches] == [1, 2]
    assert all(batch.pictures_per_s > 0 for batch in result.batches)
    assert (result.kind, result.device, result.model_bytes) == ("local", "cpu", bundle.stat().st_size)
    assert [cost.price.instance_type for cost in result.costs] == ["ml.c5.large", None]
    assert read(tmp_path / "out") == result
    assert "batches of 2" in said
    assert any("p95 needs 20, p99 needs 100" in note for note in result.notes)
    assert any("THIS machine" in note for note in result.notes)


def test_the_first_answer_of_a_fresh_process(bundle: Path, pictures: Path) -> None:
    result = benchmark(bundle, images=pictures, asked=Asked(samples=1, warm_up=0, batch_sizes=(), start_runs=1))
    assert result.start is not None
    assert result.start.first_answer_s.mean > result.start.load_s.mean > 0
    assert result.batches == ()


def test_the_same_model_behind_the_server(bundle: Path, pictures: Path) -> None:
    loaded = targets.open_local(str(bundle))
    assert isinstance(loaded.model.predict, StagedPredict)
    with running(loaded.model) as url:
        result = benchmark(url, images=pictures, asked=replace(QUICK, limit_s=0.3))
    assert result.kind == "remote"
    assert {"decode", "model", "encode"} <= set(result.stages)
    assert [one.count for one in result.clients] == [1, 2]
    assert not result.errors
    assert result.received_bytes and result.sent_bytes
    told = text(result)
    assert "server: model" in told
    assert "Server and clients share this machine" in told


def test_prices_are_looked_up_before_anything_is_measured(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        benchmark(
            "no model", images=pictures, instance_types=["ml.g5.9xlarge", "ml.c5.large", "nothing"],
            serverless_memory_mb=7, cache=tmp_path,
        )  # fmt: skip
    assert [problem.what.split()[0] for problem in caught.value.problems] == ["'ml.g5.9xlarge'", "'nothing'", "is"]


def test_what_cannot_be_measured(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(SightlineError, match="does not exist"):
        benchmark(tmp_path / "nothing", images=pictures)
    (pictures / "a.jpg").write_bytes(b"no picture")
    (pictures / "b.jpg").write_bytes(b"")
    with pytest.raises(ImageError) as caught:
        benchmark("model", images=pictures)
    assert len(caught.value.problems) == 2
    with pytest.raises(SightlineError, match="is on S3"):
        benchmark("model", images="s3://bucket/pictures")


def test_questions_that_make_no_sense_with_all_that_is_wrong() -> None:
    with pytest.raises(ConfigError) as caught:
        Asked(samples=0, limit_s=-1, batch_sizes=(1, 1), clients=(0,))
    assert [problem.where for problem in caught.value.problems] == ["--samples", "--seconds", "--batch-sizes", "--clients"]


def test_tables_in_markdown(make_result: Make, make_batch: Make, make_cost: Make) -> None:
    result = make_result(
        target="a|b", stages={"model": spread([0.25] * 30)}, batches=(make_batch(4, 2.0, 2.0),), costs=(make_cost(),)
    )
    page = markdown(result)
    assert page.startswith("# Benchmark of a\\|b\n")
    assert "| model | 250 ms | 250 ms | 250 ms .. 250 ms | 250 ms | 250 ms .. 250 ms | - | 25.0% |" in page
    assert "| ml.c5.large | $0.36/h | $0.100 | $0.050 | batches of 4 | NO, priced as if |" in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)


@pytest.mark.parametrize("name", ["plot.png", "plot.svg"])
def test_the_picture(name: str, make_result: Make, make_batch: Make, make_cost: Make, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = make_result(
        stages={"model": spread([0.25] * 30)}, batches=(make_batch(1, 1.0, 1.0), make_batch(4, 2.0, 2.0)), costs=(make_cost(),)
    )
    write_plot(result, tmp_path / name)
    begin = (tmp_path / name).read_bytes()[:200]
    assert begin.startswith(b"\x89PNG") if name.endswith("png") else b"<svg" in begin or b"<?xml" in begin
    remote = make_result(kind="remote", clients=(Clients(1, spread([1.0]), 1.0, 5.0),), stages={"model": spread([0.5])})
    write_plot(remote, tmp_path / name)


def test_a_picture_of_another_kind(make_result: Make, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, MissingDependencyError), match=r"plot\.pdf"):
        write_plot(make_result(), tmp_path / "plot.pdf")
