"""Weights & Biases dashboard of a project, as code: overview, calibration, per class, comparison of a sweep.

    python experiments/dashboards/workspace.py --entity TEAM            # save as a view of the project (network)
    python experiments/dashboards/workspace.py --print                  # print it without saving (no network)

Needs the extra `dashboards`. Panels name the metrics that `python -m emodet.train logger=wandb` logs; a test compares
them with the metrics of a run.
"""

import argparse
import sys

try:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
except ModuleNotFoundError:
    sys.exit("error: this needs wandb-workspaces: pip install -e '.[dashboards]'")

from emodet.emotions import EMOTIONS

NAME = "emodet"
# Runs that keep the default of a key have no value for it.
HYPERPARAMETERS = {
    "optimizer.lr": True,
    "optimizer.weight_decay": True,
    "loss.label_smoothing": False,
    "net.head_dropout": False,
    "data.batch_size": True,
    "seed": False,
}
"""Configuration keys that a sweep varies, and whether their axis is logarithmic."""


def lines(title: str, *metrics: str, **more: object) -> wr.LinePlot:
    return wr.LinePlot(title=title, x="epoch", y=list(metrics), **more)


def figure(name: str, title: str) -> wr.MediaBrowser:
    """Panel of a figure that a run logs at its end."""
    return wr.MediaBrowser(title=title, media_keys=[name], num_columns=1)


def overview() -> ws.Section:
    return ws.Section(
        name="Overview",
        is_open=True,
        panels=[
            wr.ScalarChart(title="Accuracy, test faces", metric=wr.SummaryMetric("test/accuracy")),
            wr.ScalarChart(title="Macro F1, test faces", metric=wr.SummaryMetric("test/macro_f1")),
            wr.BarPlot(
                title="Accuracy with its 95 % interval",
                metrics=["test/accuracy/low", "test/accuracy", "test/accuracy/high"],
                orientation="h",
            ),
            lines("Loss", "train/loss", "val/loss"),
            lines("Accuracy", "train/accuracy", "val/accuracy"),
            lines("Macro F1", "train/macro_f1", "val/macro_f1"),
            lines("Learning rate", metric_regex="^lr-", log_y=True),
            lines("Training faces per second", "train/faces_per_second"),
            figure("augmentation", "Augmentation"),
            wr.RunComparer(diff_only="split"),
        ],
    )


def calibration() -> ws.Section:
    return ws.Section(
        name="Calibration",
        panels=[
            lines("Calibration error, val faces, at temperature 1", "val/calibration_error"),
            lines("NLL, val faces, at temperature 1", "val/nll"),
            wr.BarPlot(
                title="Calibration error, test faces: at temperature 1, and calibrated",
                metrics=["test/calibration_error_at_temperature_1", "test/calibration_error"],
            ),
            wr.BarPlot(title="Temperature", metrics=["temperature"]),
            figure("test/reliability", "Reliability, test faces"),
        ],
    )


def per_class() -> ws.Section:
    recalls = [f"val/recall/{name}" for name in EMOTIONS]
    return ws.Section(
        name="Per class",
        panels=[
            lines("Recall, val faces", *recalls, range_y=(0, 1)),
            lines("Mean recall over the classes", "val/balanced_accuracy"),
            wr.BarPlot(title="Recall, test faces", metrics=[f"test/recall/{name}" for name in EMOTIONS]),
            figure("test/confusion_matrix", "Predictions for each true class, test faces"),
            wr.WeavePanelSummaryTable(table_name="test/classes"),
            figure("test/worst_errors", "Worst errors, test faces"),
            wr.WeavePanelSummaryTable(table_name="test/worst_errors"),
        ],
    )


def sweep() -> ws.Section:
    columns = [
        wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key), log=logarithmic)
        for key, logarithmic in HYPERPARAMETERS.items()
    ]
    score = wr.SummaryMetric("final/val/macro_f1")
    return ws.Section(
        name="Comparison of a sweep",
        panels=[
            wr.ParallelCoordinatesPlot(columns=[*columns, wr.ParallelCoordinatesPlotColumn(metric=score)]),
            wr.ParameterImportancePlot(with_respect_to="final/val/macro_f1"),
            wr.ScatterPlot(title="Learning rate", x=wr.Config("optimizer.lr"), y=score, log_x=True, running_ymax=True),
            wr.ScatterPlot(title="Accuracy and work", x=wr.Config("multiply_adds"), y=score, log_x=True),
            wr.BarPlot(
                title="Macro F1 by group: mean and standard error over its runs",
                metrics=["final/val/macro_f1"],
                groupby="Group",
                groupby_aggfunc="mean",
                groupby_rangefunc="stderr",
            ),
            lines("Selection accuracy by group", "val/accuracy", groupby="Group", groupby_rangefunc="minmax"),
        ],
    )


def build(entity: str, project: str = "emodet", name: str = NAME) -> ws.Workspace:
    """Build the workspace without network access."""
    pinned = ["test/accuracy", "test/macro_f1", "test/calibration_error", "faces_per_second"]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[overview(), calibration(), per_class(), sweep()],
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=20),
        runset_settings=ws.RunsetSettings(
            order=[ws.Ordering(ws.Summary("test/macro_f1"), ascending=False)],
            pinned_columns=[
                *(f"summary:{metric}" for metric in pinned),
                *(f"config:{key}" for key in ("choices.value.experiment", "choices.value.data", "seed.value")),
            ],
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--entity", help="team or user that owns the project; required to save it")
    parser.add_argument("--project", default="emodet")
    parser.add_argument("--name", default=NAME, help="name of the view")
    parser.add_argument("--print", action="store_true", help="print the workspace as JSON without saving it")
    arguments = parser.parse_args()
    if not arguments.entity and not arguments.print:
        parser.error("--entity TEAM is required to save the workspace; --print only prints it")
    workspace = build(arguments.entity or "TEAM", arguments.project, arguments.name)
    if arguments.print:
        print(workspace._to_model().model_dump_json(by_alias=True, indent=2))  # noqa: SLF001 (no public form)
        return
    try:
        workspace.save()
    except Exception as problem:  # network, credentials and project errors have different types
        sys.exit(
            f"error: the workspace could not be saved ({problem}). Saving needs a network connection and `wandb login`"
        )


if __name__ == "__main__":
    main()
