"""What a run may be configured by: the schema that refuses a mistyped key, in a file and on the command line.

Every field that is None here and not set in a file keeps the default of the signature that it is for, so no default is
written twice. `conf/` holds the choices.
"""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["AuditConfig", "EvaluateConfig", "ExportConfig", "PrepareConfig", "TeachConfig", "TrainConfig"]


@dataclass
class PreprocessingConfig:
    """See `emodet.preprocessing.Preprocessing`."""

    size: int | None = None
    margin: float | None = None
    alignment: str | None = None
    colour: str | None = None
    detail: int | None = None
    interpolation: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    contrast: str | None = None


@dataclass
class SyntheticConfig:
    """See `emodet.synthetic.releases.write_release`."""

    layout: str | None = None
    faces: dict[str, int] | None = None
    seed: int | None = None
    balance: str | None = None
    workers: int | None = None
    progress: bool | None = None


@dataclass
class DataConfig:
    """See `emodet.data.datamodule.EmotionDataModule`."""

    root: str | None = None
    packs: str | None = None
    reader: str | None = None
    reader_options: dict[str, Any] | None = None
    synthetic: SyntheticConfig | None = None
    crop: str | None = None
    classes: int | None = None
    labels: str | None = None
    val_from: Any = None
    split_seed: int | None = None
    batch_size: int | None = None
    evaluation_batch_size: int | None = None
    balanced: bool | None = None
    training_faces: int | None = None
    num_workers: int | None = None
    device: str | None = None
    processes: int | None = None
    max_unreadable: float | None = None
    changed: str | None = None
    corrections: str | None = None
    sources: Any = None


@dataclass
class AugmentationConfig:
    """See `emodet.data.augmentation.Augmentation`."""

    steps: list[Any] | None = None


@dataclass
class NetConfig:
    """See `emodet.models.nets.build_net`; `arguments` is for the nets of timm."""

    name: str | None = None
    channels: list[int] | None = None
    stage_dropout: list[float] | None = None
    head_dropout: float | None = None
    features: int | None = None
    pretrained: bool | None = None
    input_size: int | None = None
    arguments: dict[str, Any] | None = None


@dataclass
class OptimizerConfig:
    """See `emodet.models.optimization.build_optimizer`."""

    name: str | None = None
    lr: float | None = None
    weight_decay: float | None = None
    momentum: float | None = None
    nesterov: bool | None = None
    betas: list[float] | None = None
    eps: float | None = None


@dataclass
class ScheduleConfig:
    """See `emodet.models.optimization.build_schedule`; without a name the learning rate stays."""

    name: str | None = None
    warmup: float | None = None
    final: float | None = None
    factor: float | None = None
    patience: int | None = None
    monitor: str | None = None


@dataclass
class LossConfig:
    """What is made small.

    Attributes:
        label_smoothing: See `emodet.models.losses.SoftCrossEntropy`.
        class_weights: ``balanced`` (inverse to the training faces per class), or one number per class.
        focal_gamma: See `SoftCrossEntropy`.
        logit_adjustment: Likewise; the prior is that of the training faces.
        valence_arousal: The weight of the loss on valence and arousal, see
            `emodet.models.valence_arousal.ConcordanceLoss`; None and 0 are for a net without these outputs.
    """

    label_smoothing: float | None = None
    class_weights: Any = None
    focal_gamma: float | None = None
    logit_adjustment: float | None = None
    valence_arousal: float | None = None


@dataclass
class DistillationConfig:
    """What a student learns from teachers, see `emodet.data.distillation.Distillation`.

    Attributes:
        answers: The folder that `python -m emodet.teach` wrote; None, with the others, trains without teachers.
        weight: See `Distillation`.
        temperature: Likewise.
    """

    answers: str | None = None
    weight: float | None = None
    temperature: float | None = None


@dataclass
class TrainingConfig:
    """How the net is led through its epochs.

    Attributes:
        select_by: The metric on the val faces that chooses the best epoch.
        keep: Which epoch is kept, calibrated and reported on: ``best`` by `select_by`, or ``last``, for a training
            whose length was fixed beforehand; no face then chooses the epoch, and `select_by` is only noted.
        patience: Epochs without gain in it after which training stops; None goes on to the end.
        weight_averaging: Decay per step of an exponential moving average of the weights; None does without.
        mixup: See `emodet.models.mixing.Mixing`.
        cutmix: Likewise.
        mixing_chance: Likewise.
        sharpness: See `emodet.models.sharpness.SharpnessAware`.
        resolutions: See `emodet.models.classifier.EmotionClassifier`.
        channels_last: Likewise.
        compile: Likewise.
    """

    select_by: str = "val/accuracy"
    keep: str = "best"
    patience: int | None = None
    weight_averaging: float | None = None
    mixup: float | None = None
    cutmix: float | None = None
    mixing_chance: float | None = None
    sharpness: float | None = None
    resolutions: list[Any] | None = None
    channels_last: bool | None = None
    compile: bool | None = None


@dataclass
class TrainerConfig:
    """See `lightning.Trainer`."""

    max_epochs: int | None = None
    max_steps: int | None = None
    max_time: str | None = None
    accelerator: str | None = None
    devices: Any = None
    num_nodes: int | None = None
    strategy: str | None = None
    precision: str | None = None
    gradient_clip_val: float | None = None
    accumulate_grad_batches: int | None = None
    check_val_every_n_epoch: int | None = None
    val_check_interval: Any = None
    limit_train_batches: Any = None
    limit_val_batches: Any = None
    limit_test_batches: Any = None
    overfit_batches: Any = None
    num_sanity_val_steps: int | None = None
    log_every_n_steps: int | None = None
    profiler: str | None = None
    deterministic: Any = None
    benchmark: bool | None = None
    sync_batchnorm: bool | None = None
    detect_anomaly: bool | None = None
    enable_progress_bar: bool | None = None


@dataclass
class LoggerConfig:
    """Where a run's metrics go besides its own CSV files.

    Attributes:
        name: ``csv`` (nowhere else), ``wandb`` or ``tensorboard``.
        pictures: Whether the tracker is shown faces, see `emodet.training.tracking.may_show_pictures`.
        artifacts: Whether Weights & Biases keeps the best checkpoint and the model file.
        project: Of Weights & Biases.
        entity: Likewise: the team or user; None is the one that is logged in.
        group: Likewise.
        tags: Likewise.
    """

    name: str = "csv"
    pictures: Any = "auto"
    artifacts: bool = True
    project: str = "emodet"
    entity: str | None = None
    group: str | None = None
    tags: list[str] | None = None


@dataclass
class PrunerConfig:
    """See `optuna.pruners.PercentilePruner`; epochs are its steps.

    Attributes:
        percentile: Of the finished trials' values at the same epoch: a trial ends when its best one so far is worse.
        startup_trials: Trials that must have finished before any is ended.
        warmup_epochs: Epochs in which none is ended.
        interval_epochs: Epochs between two comparisons.
        min_trials: Finished trials that must have a value at that epoch.
    """

    percentile: float = 50.0
    startup_trials: int | None = None
    warmup_epochs: int | None = None
    interval_epochs: int | None = None
    min_trials: int | None = None


@dataclass
class SweepConfig:
    """What `--multirun` runs; the groups `sweep` and `launcher` choose it.

    Attributes:
        params: Key to what it may be, as Hydra writes sweeps; the command line adds to it and replaces it.
        at_once: Runs side by side, which share out the cores.
        batch: Runs that are handed to the launcher together; None: all of a grid, `at_once` of a search.
        trials: How many finished or stopped trials a search ends with, those of its study file included.
        study: The search's file (Optuna's journal); one that is there is gone on with.
        seed: Of the search.
        startup_trials: Trials drawn at random before the search learns from them.
        pruner: When a trial is stopped early; None lets all go to their end.
        trial: Number of the trial that a run is; the search itself sets it.
    """

    params: dict[str, Any] = field(default_factory=dict)
    at_once: int = 1
    batch: int | None = None
    trials: int | None = None
    study: str | None = None
    seed: int = 0
    startup_trials: int | None = None
    pruner: PrunerConfig | None = None
    trial: int | None = None


@dataclass
class TrainConfig:
    """Everything that `python -m emodet.train` takes.

    Attributes:
        name: Of the run's folder and of the run in the logger.
        seed: Of initial weights, order, augmentation and dropout.
        init_from: A checkpoint, or a state dict, whose weights training starts from.
        resume: A run's folder to continue in.
        threads: Of torch on the CPU; None leaves it to torch.
    """

    name: str = "run"
    seed: int = 0
    init_from: str | None = None
    resume: str | None = None
    threads: int | None = None
    data: DataConfig = field(default_factory=DataConfig)
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    net: NetConfig = field(default_factory=NetConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)


@dataclass
class PrepareConfig(TrainConfig):
    """Everything that `python -m emodet.prepare` takes; it knows the experiments, so it takes what `train` takes.

    Attributes:
        verify: Whether to compare every byte of a pack that is there already with its manifest.
        force: Whether to delete a pack that is there already and make it again.
        list: Whether to say what is there, against what is published of it, and pack nothing.
        shard: Which share of the faces to prepare, of how many (``3/16``), so that several machines share the work.
        merge: Whether to join the shards that are there to the pack, instead of preparing what is missing of it.
    """

    verify: bool = False
    force: bool = False
    list: bool = False
    shard: str | None = None
    merge: bool = False


@dataclass
class TeachConfig(TrainConfig):
    """Everything that `python -m emodet.teach` takes; it looks at what a training shows, so it takes what that takes.

    Attributes:
        checkpoint: The teacher, or a list of them: runs' folders, ``.ckpt``, or plain weights (``.pt``) with their
            card. Several answer with the mean of their probabilities.
        output: The folder for the answers; by default ``teach/`` in the outputs' folder, and a name made of what is
            asked of whom. The same command goes on there.
        epochs: How many epochs of the student are answered; None takes trainer.max_epochs.
        augmented: Whether teachers look at exactly the augmented crops that the student will see, epoch by epoch;
            ``false`` lets them look at each training face once, as it is, whatever the student's seed and augmentation.
        flip: Whether each crop's mirror image is answered too, and the mean is taken.
        student_processes: How many processes will share the student's training.
        accelerator: As Lightning names it.
        precision: ``32-true``, or ``bf16-mixed``, which is faster where the machine has it.
    """

    checkpoint: Any = None
    output: str | None = None
    epochs: int | None = None
    augmented: bool = True
    flip: bool = False
    student_processes: int = 1
    accelerator: str = "auto"
    precision: str = "32-true"


@dataclass
class EvaluateConfig:
    """Everything that `python -m emodet.evaluate` takes.

    Attributes:
        checkpoint: The ``.ckpt`` to measure, a run's folder, or plain weights (``.pt``) with their card. Its run's
            data is used unless `data` or `data.root` is given.
        model: The model file (``.onnx``) to measure instead.
        split: ``test`` or ``val``: which faces to measure on.
        output: The folder for the report; by default ``evaluation-SPLIT`` in the run's folder.
        resamples: Of the bootstrap.
        errors: How many of the worst errors the page shows.
        corruptions: Whether to measure how accuracy falls with blur, noise, compression, darkness, distance, tilt and
            occlusion too; see `emodet.evaluation.corruptions`.
        flip: Whether each crop's mirror image is answered too, and the mean is taken: twice the work, so figures of it
            stand apart.
        accelerator: As Lightning names it.
    """

    checkpoint: str | None = None
    model: str | None = None
    split: str = "test"
    output: str | None = None
    resamples: int = 2000
    errors: int = 48
    corruptions: bool = False
    flip: bool = False
    accelerator: str = "auto"
    data: DataConfig = field(default_factory=DataConfig)


@dataclass
class OutOfFoldConfig:
    """See `emodet.auditing.out_of_fold.Plan`."""

    folds: int | None = None
    epochs: int | None = None
    side: int | None = None


@dataclass
class CopiesConfig:
    """See `emodet.auditing.duplicates.CopyRules`."""

    radius: int | None = None
    correlation: float | None = None
    least_contrast: float | None = None


@dataclass
class QualityConfig:
    """See `emodet.auditing.quality.QualityRules`."""

    uniform: float | None = None
    dark: float | None = None
    glaring: float | None = None
    flat: float | None = None
    blurred: float | None = None


@dataclass
class ProposalsConfig:
    """See `emodet.auditing.proposals.ProposalRules`."""

    splits: list[str] | None = None
    exclude_below: float | None = None
    relabel_from: float | None = None
    agreed_from: float | None = None


@dataclass
class AuditConfig(TrainConfig):
    """Everything that `python -m emodet.audit` takes; its nets are trained as `train` trains, so it takes that too.

    Attributes:
        output: The folder for what comes out, and for the nets' answers; by default ``audit/`` and the data's name and
            fingerprint, in the outputs' folder. The same command goes on there.
        quick: Whether to leave out what takes long: the nets, the detector, the stored pictures' sizes.
        probabilities: A file of answers by nets of your own that were not trained on the faces they answer, instead of
            training some: see `emodet.auditing.probabilities`.
        model: The model file that is asked about the class order: a path, ``int8`` or ``fp32`` for a shipped one,
            ``none`` to leave it out.
        detector: As in `emodet.inference.detectors.DETECTORS`; ``none`` leaves it out.
        detector_faces: Let the detector look at so many faces, drawn at random; None takes all.
        gallery: How many pictures a gallery of the page shows.
        pictures: Whether the page shows pictures at all.
        out_of_fold: How much is spent on the nets.
        copies: What counts as a copy.
        quality: What counts as a bad picture.
        proposals: What is proposed for correction.
    """

    output: str | None = None
    quick: bool = False
    probabilities: str | None = None
    model: str = "int8"
    detector: str = "auto"
    detector_faces: int | None = 10000
    gallery: int = 48
    pictures: bool = True
    out_of_fold: OutOfFoldConfig = field(default_factory=OutOfFoldConfig)
    copies: CopiesConfig = field(default_factory=CopiesConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    proposals: ProposalsConfig = field(default_factory=ProposalsConfig)


@dataclass
class ExportConfig:
    """Everything that `python -m emodet.export` takes.

    Attributes:
        checkpoint: A ``.ckpt``, a run's folder, or plain weights (``.pt``) with their card. Its run's data is used
            unless other data is named.
        output: The folder for the files; by default ``export`` in the run's folder.
        name: The files' common name.
        formats: Of fp32, int8 and pt2; None makes what can be made.
        format: ``web`` writes the page that recognises in the browser, as a static folder, and nothing else.
        model: For the page: a model file, or ``int8`` or ``fp32`` for one that comes with the package.
        force: Whether files that fail the gate are written all the same.
        overwrite: Whether files of that name may be replaced.
        trained_on: What the files call their training data; by default what the run says.
        terms: On which terms the training data may be used, as the files repeat it; known for AffectNet and FER+.
        calibration_faces: How many training faces set the ranges of int8.
        reduce_range: Whether int8 weights have 7 bits, which is safe on processors without VNNI.
        threads: Of torch and ONNX Runtime while measuring; None leaves it to them.
        preprocessing: Margin, alignment and detail with which a detector's faces are to be cut, where training pictures
            were face crops already or framed otherwise.
        data: Faces to calibrate and to measure on.
    """

    checkpoint: str | None = None
    output: str | None = None
    name: str = "emodet"
    formats: list[str] | None = None
    format: str | None = None
    model: str | None = None
    force: bool = False
    overwrite: bool = False
    trained_on: str | None = None
    terms: str | None = None
    calibration_faces: int = 512
    reduce_range: bool = True
    threads: int | None = None
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    data: DataConfig = field(default_factory=DataConfig)
