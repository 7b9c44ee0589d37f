"""A search from a declared space to the best run, against moto; what moto only fakes with answers of SageMaker's form."""

import json
from pathlib import Path
from typing import Any

import pytest
from builders import a_dataset_folder

from sightline.cli import cloud as command
from sightline.cli import cloud_search
from sightline.cloud import jobs, policies, searches
from sightline.cloud.account import Account
from sightline.cloud.requests import Range
from sightline.errors import RunError, SightlineError

from .conftest import Pauses, Run, archive, asked_for


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_dataset_folder(tmp_path_factory.mktemp("made") / "parts", train=6, val=2)


LEARNING, BATCH = "learning-rate=1e-4..1e-1,log", "batch-size=2,4"


def test_the_space_of_tune_as_the_platforms_ranges(sightline: Run, data: Path, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        "SOLVER.BASE_LR: {low: 1e-4, high: 1e-1, log: true}\nMODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE: {low: 16, high: 128}\n"
        "rotate: {choices: [true, false]}\n"
        "scale-jitter: {choices: [[0.8, 1.25], [0.5, 2]]}\nprecision: {choices: [fp32, bf16]}\n"
    )
    code, out, err = sightline(
        "tune", "--data", data, "--space", space, "--epochs", "4", "--trials", "6", "--parallel", "3", "--seed", "7",
        "--metric", "bbox/AP50", "SOLVER.IMS_PER_BATCH", "2", "--dry-run",
    )  # fmt: skip
    assert code == 0, err
    (call,) = json.loads(out)["requests"]
    request = call["request"]
    assert call["operation"] == "CreateHyperParameterTuningJob"
    config = request["HyperParameterTuningJobConfig"]
    assert config["ParameterRanges"] == {
        "ContinuousParameterRanges": [
            {"Name": "SOLVER.BASE_LR", "MinValue": "0.0001", "MaxValue": "0.1", "ScalingType": "Logarithmic"}
        ],
        "IntegerParameterRanges": [
            {"Name": "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "MinValue": "16", "MaxValue": "128", "ScalingType": "Linear"}
        ],
        "CategoricalParameterRanges": [
            {"Name": "rotate", "Values": ["true", "false"]},
            {"Name": "scale-jitter", "Values": ["[0.8, 1.25]", "[0.5, 2]"]},
            {"Name": "precision", "Values": ["fp32", "bf16"]},
        ],
    }
    assert config["HyperParameterTuningJobObjective"] == {"Type": "Maximize", "MetricName": "best-bbox-AP50"}
    assert config["ResourceLimits"] == {"MaxNumberOfTrainingJobs": 6, "MaxParallelTrainingJobs": 3}
    assert (config["Strategy"], config["TrainingJobEarlyStoppingType"], config["RandomSeed"]) == ("Bayesian", "Auto", 7)
    fixed = request["TrainingJobDefinition"]["StaticHyperParameters"]
    # 4 epochs of 6 pictures, 2 a step: 12 steps, measured four times
    assert fixed == {
        "config": "small", "epochs": "4.0", "metric": "bbox/AP50", "seed": "7", "SOLVER.IMS_PER_BATCH": "2",
        "TEST.EVAL_PERIOD": "3",
    }  # fmt: skip
    assert len(request["HyperParameterTuningJobName"]) <= 32


def test_the_container_takes_every_value_of_the_space() -> None:
    """What SageMaker hands over of each range, its own quotation marks included."""
    from sightline.containers.hyperparameters import understood

    given = {
        "_tuning_objective_metric": "best-bbox-AP", "SOLVER.BASE_LR": "0.0031", "batch-size": "4", "rotate": '"true"',
        "scale-jitter": '"[0.8, 1.25]"', "precision": '"bf16"',
    }  # fmt: skip
    read = understood(given, lambda name: name or "small")
    assert read.overrides == ("SOLVER.BASE_LR", "0.0031")
    expected = ["--batch-size", "4", "--rotate", "--scale-jitter", "0.8", "1.25", "--precision", "bf16"]
    assert read.words() == expected
    values = {name: searches.plain(value) for name, value in given.items() if not name.startswith("_")}
    assert set(cloud_search.best_words(values)) == {*expected, *read.overrides}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--space", "batch-size=2..8,step"], "batch-size: has step: True. Give a whole number."),
        (["--space", "no-space.yaml"], "no-space.yaml"),
        (["--space", LEARNING, "--space", "no.yaml"], "--space: names no.yaml and more"),
        (["--space", LEARNING, "--space", LEARNING], "names learning-rate twice"),
        (["--space", LEARNING, "--learning-rate", "0.1"], "space: learning-rate: is searched, and given a value, too"),
        (["--space", "SOLVER.BASE_LT=1,2"], "Did you mean 'SOLVER.BASE_LR'"),
        (["--space", LEARNING, "--strategy", "Grid"], "learning-rate: is a range, and a grid tries choices"),
        (["--space", BATCH, "--strategy", "Grid", "--trials", "3"], "--trials: is 3, and the grid has 2"),
        (["--space", LEARNING, "--strategy", "Hyperband"], "is 'Hyperband'. Sightline's trainings do not count by epochs"),
        (["--space", LEARNING, "--strategy", "Bayes"], "--strategy: is 'Bayes'. Did you mean 'Bayesian'?"),
        (["--space", LEARNING, "--metric", "bbox/AR"], "--metric: is 'bbox/AR'. Did you mean 'bbox/AP'?"),
        (["--space", LEARNING, "--trials", "2", "--parallel", "3"], "MaxParallelTrainingJobs: is 3 of 2 jobs"),
        (["--space", LEARNING, "--validate-on", "none"], "none"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_asked_wrongly_costs_nothing(sightline: Run, account: Account, data: Path, words: list[str], told: str) -> None:
    code, out, err = sightline("tune", "--data", data, *words)
    assert code == 2
    assert told in err
    assert out == ""
    assert account.client("s3").list_buckets()["Buckets"] == []


def test_how_often_the_shortest_training_is_measured() -> None:
    """10 epochs of 12 pictures in batches of 2 to 8 are 60 to 15 steps."""
    given = {"config": "small", "epochs": 10}
    assert cloud_search.read_space(["batch-size=2,4,8"], given, 12).hyperparameters == {"TEST.EVAL_PERIOD": 4}
    assert cloud_search.read_space([LEARNING], {**given, "batch-size": 2}, 12).hyperparameters == {"TEST.EVAL_PERIOD": 15}
    with pytest.raises(SightlineError, match=r"^TEST.EVAL_PERIOD: is not given, .* nothing would be measured"):
        cloud_search.read_space([LEARNING], given, 0)
    assert cloud_search.read_space([LEARNING], {**given, "TEST.EVAL_PERIOD": "5"}, 0).hyperparameters == {}


def test_a_step_is_nothing_for_sagemaker(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("image-size: {low: 128, high: 256, step: 32}\nbatch-size: {low: 2, high: 4, step: 1}\n")
    with pytest.raises(SightlineError, match=r"^space: image-size: has step 32, and SageMaker's ranges have none\."):
        cloud_search.read_space([str(space)], {"config": "small"}, 12)
    space.write_text("batch-size: {low: 2, high: 4, step: 1}\n")
    assert cloud_search.read_space([str(space)], {"config": "small"}, 12).ranges == (Range("batch-size", 2, 4, True, "Linear"),)


def test_a_search_is_sent_and_found_again(sightline: Run, account: Account, data: Path) -> None:
    words = ["--space", BATCH, "--strategy", "Grid", "--no-wait", "--json", "--spot"]
    with asked_for(account) as rights:
        code, out, err = sightline("tune", "--data", data, *words)
    assert code == 0, err
    assert "sagemaker:CreateHyperParameterTuningJob" in rights
    assert rights <= policies.actions_of(policies.policy("tune", policies.Scope()))
    assert "begin anew: they must not share checkpoints" in err
    name = json.loads(out)["name"]
    client = account.client("sagemaker")
    told = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    limits = told["HyperParameterTuningJobConfig"]["ResourceLimits"]
    assert limits["MaxNumberOfTrainingJobs"] == 2
    assert {"Key": "sightline:kind", "Value": "tuning-job"} in client.list_tags(ResourceArn=told["HyperParameterTuningJobArn"])[
        "Tags"
    ]


BEST = {
    "TrainingJobName": "parts-002", "TrainingJobStatus": "Completed",
    "TunedHyperParameters": {"learning-rate": "0.003", "rotate": '"true"', "TEST.DETECTIONS_PER_IMAGE": "50"},
    "FinalHyperParameterTuningJobObjectiveMetric": {"MetricName": "best-bbox-AP", "Value": 0.5},
}  # fmt: skip


def told(status: str, counts: dict[str, int], **more: Any) -> dict[str, Any]:
    objective = {"Type": "Maximize", "MetricName": "best-bbox-AP"}
    return {
        "HyperParameterTuningJobName": "parts", "HyperParameterTuningJobStatus": status, "TrainingJobStatusCounters": counts,
        "HyperParameterTuningJobConfig": {
            "HyperParameterTuningJobObjective": objective, "ResourceLimits": {"MaxNumberOfTrainingJobs": 3},
        },
        **more,
    }  # fmt: skip


class SageMaker:
    """A search's answers one after the other, and the trainings that it started."""

    def __init__(self, *answers: dict[str, Any] | Exception, archive: str = "") -> None:
        self.answers = list(answers)
        self.archive = archive
        self.stopped = 0

    def describe_hyper_parameter_tuning_job(self, HyperParameterTuningJobName: str) -> dict[str, Any]:  # noqa: N803
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stop_hyper_parameter_tuning_job(self, HyperParameterTuningJobName: str) -> None:  # noqa: N803
        self.stopped += 1

    def get_paginator(self, name: str) -> "SageMaker":
        assert name == "list_training_jobs_for_hyper_parameter_tuning_job"
        return self

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        return [
            {"TrainingJobSummaries": [{"TrainingJobName": "parts-001"}]},
            {"TrainingJobSummaries": [{"TrainingJobName": "parts-002"}]},
        ]

    def describe_training_job(self, TrainingJobName: str) -> dict[str, Any]:  # noqa: N803
        if TrainingJobName == "parts":
            from botocore.exceptions import ClientError

            raise ClientError(
                {"Error": {"Code": "ValidationException", "Message": "Requested resource not found."}}, "Describe"
            )
        return {
            "TrainingJobName": TrainingJobName, "TrainingJobStatus": "Completed", "TrainingTimeInSeconds": 1800,
            "BillableTimeInSeconds": 900, "EnableManagedSpotTraining": True,
            "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1},
            "ModelArtifacts": {"S3ModelArtifacts": self.archive},
        }  # fmt: skip


def account_of(sagemaker: SageMaker) -> Account:
    return Account("123456789012", "us-east-1", "aws", "arn", {"sagemaker": sagemaker}.__getitem__)


RUNNING = told("InProgress", {"Completed": 0, "InProgress": 2})
DONE = told("Completed", {"Completed": 2, "Stopped": 1, "InProgress": 0}, BestTrainingJob=BEST)


def test_a_search_is_followed_through_a_lost_connection() -> None:
    said: list[str] = []
    search = searches.follow(
        account_of(SageMaker(RUNNING, ConnectionError("gone"), RUNNING, DONE)), "parts", said.append, sleep=Pauses()
    )
    assert said == [
        "0 of 3 trainings are over, 2 under way",
        "the connection to AWS is lost (ConnectionError), trying again",
        "3 of 3 trainings are over, 1 ended early; best-bbox-AP 0.5 of parts-002",
    ]
    assert searches.require_best(search).values == {
        "learning-rate": "0.003", "rotate": "true", "TEST.DETECTIONS_PER_IMAGE": "50",
    }  # fmt: skip


def test_the_end_of_a_search(
    sightline: Run, account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    s3 = account.client("s3")
    s3.create_bucket(Bucket="parts")
    s3.put_object(Bucket="parts", Key="parts-002/model.tar.gz", Body=archive(model_dot_pth=b"weights", bundle_dot_json=b"{}"))
    fake = account_of(SageMaker(DONE, archive="s3://parts/parts-002/model.tar.gz"))
    monkeypatch.setattr(command, "open_account", lambda: fake)
    cloud_search.finish_search(fake, "parts", tmp_path / "run", 1.0, False, ["--data", "parts/"])
    out = capsys.readouterr().out
    assert "cost: 1,800 s on the bill of 1 x ml.g5.xlarge: 0.50 USD at 1 USD an hour, 50% saved by spot capacity" in out
    words = "--data parts/ --learning-rate 0.003 --rotate TEST.DETECTIONS_PER_IMAGE 50"
    assert f"sightline cloud train {words}\n" in out
    assert (tmp_path / "run" / "model.pth").read_bytes() == b"weights"

    code, out, _ = sightline("status", "parts", "--json", "--price-per-hour", "1")
    assert code == 0
    assert json.loads(out)["best"]["training"] == "parts-002"
    code, out, err = sightline("fetch", "parts", "-o", tmp_path / "again")
    assert (code, (tmp_path / "again" / "model.pth").read_bytes()) == (0, b"weights"), err
    assert "3 of 3 trainings are over" in sightline("logs", "parts", "--no-follow")[1]
    assert "parts is Completed already" in sightline("stop", "parts")[1]


def test_a_search_learns_from_one_that_is_over(sightline: Run, account: Account, data: Path) -> None:
    words = ["tune", "--data", data, "--space", LEARNING]
    name = json.loads(sightline(*words, "--no-wait", "--json")[1])["name"]
    code, out, err = sightline(*words, "--warm-start", name, "--dry-run")
    assert code == 0, err
    (call,) = json.loads(out)["requests"]
    parents = [{"HyperParameterTuningJobName": name}]
    assert call["request"]["WarmStartConfig"] == {
        "ParentHyperParameterTuningJobs": parents, "WarmStartType": "TransferLearning",
    }  # fmt: skip
    code, _, err = sightline(*words, "--warm-start", name, "--metric", "val_loss")
    assert (code, f"{name} looked for best-bbox-AP, and this search looks for best-val_loss" in err) == (2, True)
    assert sightline(*words, "--warm-start", "another")[0] == 2
    asked = searches.Asked(jobs.Asked("parts/", "parts", {}), (), parents=("parts",))
    with pytest.raises(SightlineError, match=r"--warm-start: parts is InProgress\. Wait"):
        searches.require_parents(account_of(SageMaker(RUNNING)), asked)


def test_a_search_is_stopped_and_one_without_a_score_says_so() -> None:
    sagemaker = SageMaker(RUNNING)
    assert not searches.stop(account_of(sagemaker), "parts").over
    assert sagemaker.stopped == 1
    failed = searches.search_of(told("Failed", {"NonRetryableError": 3}, FailureReason="All training jobs failed."))
    with pytest.raises(RunError, match=r"has no training with a score; 3 of 3 .* 3 failed \(All training jobs failed\.\)"):
        searches.require_best(failed)
