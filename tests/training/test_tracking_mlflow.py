"""MLflow follows a training, read back by its own client."""

import json

import pytest

from discern.progress import Silent
from discern.runs.run import create_run
from discern.training.recipe import Recipe
from discern.training.tracking import tracked

mlflow = pytest.importorskip("mlflow", reason="mlflow cannot be installed beside the versions of constraints.txt yet")

# MLflow's own use of SQLAlchemy is warned about from 2.1 on; nothing of it is in Discern's hands.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def line(epoch):
    scores = {"val_loss": 2.0 / epoch} if epoch % 2 == 0 else {}
    return {"epoch": epoch, "step": 7 * epoch, "train_loss": 1.0 / epoch, "learning_rate": 0.5} | scores


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    run = create_run(tmp_path / "runs", "my-run", "net", {"tracking": {"mlflow": {}}})
    Recipe(model="mini-cnn", batch_size=17).write(run.recipe_file)
    return run


def sit(run, epochs, *, stop=False):
    """One sitting of a training: it writes the lines of these epochs, and may be stopped before its end."""
    progress = Told()
    with tracked(run, progress) as track:
        for epoch in epochs:
            lines = [line(each) for each in range(1, epoch + 1)]
            (run.path / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
            track()
        if stop:
            raise KeyboardInterrupt
    return progress.said


def stored(run, uri=None):
    """MLflow's client and its record of the run."""
    client = mlflow.MlflowClient(tracking_uri=uri or f"sqlite:///{run.path}/mlflow/mlflow.db")
    return client, client.get_run(run.info["tracking"]["mlflow"]["id"])


def test_it_has_the_recipe_and_every_value_at_its_epoch(run):
    said = sit(run, [1, 2, 3])
    assert said == [f"Followed by mlflow: mlflow ui --backend-store-uri sqlite:///{run.path}/mlflow/mlflow.db"]
    client, record = stored(run)
    assert (record.info.status, record.info.run_name) == ("FINISHED", "my-run")
    assert client.get_experiment(record.info.experiment_id).name == "discern"
    assert record.data.params["batch_size"] == "17"
    assert record.data.params["augment.flip"] == str(Recipe().augment.flip)
    assert set(record.data.metrics) == set(line(2)) - {"epoch"}
    assert [(each.step, each.value) for each in client.get_metric_history(record.info.run_id, "val_loss")] == [
        (2, 1.0)
    ]


def test_it_goes_on_without_doubling(run):
    with pytest.raises(KeyboardInterrupt):
        sit(run, [1, 2], stop=True)
    key = run.info["tracking"]["mlflow"]["id"]
    assert stored(run)[1].info.status == "KILLED"
    run.update(tracking={"mlflow": {"id": key, "epoch": 1}})  # killed before the second was noted
    sit(run, [2, 3, 4])
    client, record = stored(run)
    assert (record.info.run_id, record.info.status) == (key, "FINISHED")
    assert [each.step for each in client.get_metric_history(key, "train_loss")] == [1, 2, 3, 4]


def test_what_it_is_told_by_its_variables_counts(run, tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/team.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    assert sit(run, [1]) == ["Followed by mlflow: MLflow at MLFLOW_TRACKING_URI"]
    assert not (run.path / "mlflow").exists()
    client, record = stored(run, uri)
    assert client.get_experiment(record.info.experiment_id).name == "ours"


def test_another_store_than_before_gets_everything(run, tmp_path, monkeypatch):
    sit(run, [1, 2])
    uri = f"sqlite:///{tmp_path}/team.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    sit(run, [3])
    client, record = stored(run, uri)
    assert [each.step for each in client.get_metric_history(record.info.run_id, "train_loss")] == [1, 2, 3]
