"""Configuration keys of each command, as one dataclass per command.

Groups take keys, types and defaults from signatures; ``conf/`` contains the choices. See `emodet.schema`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from emodet.auditing.options import OutOfFoldOptions, ProposalOptions
from emodet.data.augmentation import Augmentation
from emodet.data.sources import SOURCE_KEYS, DataSettings
from emodet.preprocessing import Preprocessing
from emodet.schema import Group
from emodet.synthetic.releases import write_release

Values = dict[str, Any]
_TRAINER_SUPPLIED = ("logger", "callbacks", "plugins", "default_root_dir", "use_distributed_sampler")
_DRAWN = {"synthetic": Group(write_release, without=("root", "size"))}
Data = Annotated[Values, Group(DataSettings, unset="at first", of_sources=SOURCE_KEYS, optional=_DRAWN)]
OtherData = Annotated[Values, Group(DataSettings, unset="always", optional=_DRAWN)]


@dataclass(kw_only=True)
class DistillationConfig:
    """Distillation from trained teachers, see `emodet.models.extras.Distillation`.

    Attributes:
        teachers: Run folders, checkpoints (``.ckpt``) or plain weights (``.pt``) with their card; empty for none.
        weight: See `Distillation`.
        temperature: See `Distillation`.
        flip: See `Distillation`.
    """

    teachers: Sequence[str] = ()
    weight: float = 0.7
    temperature: float = 1.0
    flip: bool = False


@dataclass(kw_only=True)
class TrainingConfig:
    """Training-loop options.

    Attributes:
        monitor: Metric on the val split that selects the best epoch.
        mixup: See `emodet.models.extras.Mixup`.
        cutmix: See `emodet.models.extras.Mixup`.
        mix_prob: See `emodet.models.extras.Mixup`.
        sam_rho: See `emodet.models.extras.SharpnessAware`; null for plain optimizer steps.
        progressive_sizes: See `emodet.models.extras.ProgressiveSizes`.
        valence_arousal: See `emodet.models.classifier.EmotionClassifier`.
        channels_last: See `emodet.models.classifier.EmotionClassifier`.
        compile: See `emodet.models.classifier.EmotionClassifier`.
        calibration: Temperature scaling, fitted on val after training: ``temperature`` (one value), ``features`` (a
            value that depends on each face's features, fitted on corrupted copies of val as well) or ``none``.
        export: Whether to write a model file after training, as ``model/emodet-fp32.onnx`` in the run folder.
    """

    monitor: str = "val/accuracy"
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_prob: float = 1.0
    sam_rho: float | None = None
    progressive_sizes: Sequence[Sequence[int]] = ()
    valence_arousal: float | None = None
    channels_last: bool = True
    compile: bool = False
    calibration: Literal["temperature", "features", "none"] = "temperature"
    export: bool = False


@dataclass(kw_only=True)
class TrainConfig:
    """Keys of ``python -m emodet.train``.

    Attributes:
        name: Name of the run's folder, and of the run in loggers.
        seed: Seed of initial weights, order, augmentation and dropout.
        init_from: Initial weights: a run folder, a checkpoint, a state dict, or ``shipped``.
        resume: A run folder to continue.
        threads: Threads of torch on the CPU; null for torch's default.
        trust: Your own packages whose classes a stored run or checkpoint may use.
        data: The data set, see `emodet.data.sources.DataSettings`.
        preprocessing: Geometry, size and normalisation of face crops.
        augmentation: Transforms of training crops.
        net: Any ``torch.nn.Module`` that takes ``num_classes``.
        optimizer: Any ``torch.optim.Optimizer``.
        scheduler: A learning-rate scheduler.
        loss: Training objective.
        distillation: Distillation from trained teachers.
        training: Training-loop options.
        trainer: Arguments of `lightning.Trainer`; ``precision: auto`` is bf16 where the device supports it, else fp32.
        callbacks: Callbacks by name; null leaves one out.
        logger: Loggers by name, besides the CSV files of every run.
    """

    name: str = "run"
    seed: int = 0
    init_from: str | None = None
    resume: str | None = None
    threads: int | None = None
    trust: Sequence[str] = ()
    data: Data
    preprocessing: Annotated[Values, Group(Preprocessing)]
    augmentation: Annotated[Values, Group(Augmentation)]
    net: Annotated[Values, Group(without=("num_classes", "preprocessing"))]
    optimizer: Annotated[Values, Group(without=("params",))]
    scheduler: Annotated[Values, Group(without=("optimizer", "total_steps"))]
    loss: Annotated[Values, Group(without=("class_counts",))]
    distillation: Annotated[Values, Group(DistillationConfig)]
    training: Annotated[Values, Group(TrainingConfig)]
    trainer: Annotated[Values, Group(without=_TRAINER_SUPPLIED, also=(("precision", "auto"),))]
    callbacks: Annotated[Values, Group(by_name=True)]
    logger: Annotated[Values, Group(by_name=True)]


@dataclass(kw_only=True)
class PrepareConfig(TrainConfig):
    """Keys of ``python -m emodet.prepare``, which accepts every experiment, and therefore all keys of ``train``.

    Attributes:
        verify: Whether to check every byte of an existing pack against its manifest.
        force: Whether to delete an existing pack and make it again.
        list: Whether to report the contents of the release and pack nothing.
    """

    verify: bool = False
    force: bool = False
    list: bool = False


@dataclass(kw_only=True)
class EvaluateConfig:
    """Keys of ``python -m emodet.evaluate``.

    Attributes:
        checkpoint: The ``.ckpt`` to evaluate, a run folder, or plain weights (``.pt``) with their card. The data of
            its run is used unless `data` or `data.root` is given.
        model: The model file to evaluate instead: a path, or a shipped one (``int8``, ``accurate``, ``fp32``).
        split: ``test``, ``val``, ``train``, or ``all``, for data that the model was not trained on.
        output: The folder for the report; by default ``evaluation-SPLIT`` in the run folder, and for a shipped model
            file ``FILE-evaluation-SPLIT`` in the working directory.
        resamples: Number of bootstrap resamples.
        errors: Number of worst errors on the page.
        corruptions: Whether to measure accuracy under blur, noise, compression, darkness, distance, tilt and
            occlusion as well; see `emodet.evaluation.corruptions`.
        accelerator: Lightning's name of the device: ``auto``, ``cpu``, ``gpu``, …
        trust: Your own packages whose classes the checkpoint may use.
        data: Data to use instead of that of the checkpoint's run.
    """

    checkpoint: str | None = None
    model: str | None = None
    split: str = "test"
    output: str | None = None
    resamples: int = 2000
    errors: int = 48
    corruptions: bool = False
    accelerator: str = "auto"
    trust: Sequence[str] = ()
    data: OtherData


@dataclass(kw_only=True)
class ExportConfig:
    """Keys of ``python -m emodet.export``.

    Attributes:
        checkpoint: A ``.ckpt``, a run folder, or plain weights (``.pt``) with their card. The data of its run is used
            unless `data` or `data.root` is given.
        output: The folder for the files; by default ``export`` in the run folder.
        name: Common part of the file names.
        formats: ``fp32``, ``int8`` or both; null for all that are possible.
        format: ``web`` writes only the page, as a static folder; it recognises faces in the browser.
        model: Model file of the page: a path, or a shipped one: ``int8``, ``accurate`` or ``fp32``.
        force: Whether to write files that fail the parity check.
        overwrite: Whether to replace existing files.
        trained_on: Name of the training data, stored in the files; by default that of the run.
        terms: Terms of use of the training data, stored in the files; known for AffectNet and FER+.
        calibration_faces: Number of training faces that calibrate int8.
        reduce_range: Whether int8 weights have 7 bits, which is safe on processors without VNNI.
        mirror: Whether the files average the logits of each face and its mirror image, at twice the time. Only for
            `emodet.models.residual_cnn.ResidualCNN`; a training can set it with ``net.mirror``.
        threads: Threads of torch and ONNX Runtime while measuring; null for their defaults.
        trust: Your own packages whose classes the checkpoint may use.
        preprocessing: Margin, alignment and detail for crops of detected faces, if the training images were face crops
            already or framed differently.
        data: Faces for calibrating int8 and for measuring the files.
    """

    checkpoint: str | None = None
    output: str | None = None
    name: str = "emodet"
    formats: Sequence[str] | None = None
    format: str | None = None
    model: str | None = None
    force: bool = False
    overwrite: bool = False
    trained_on: str | None = None
    terms: str | None = None
    calibration_faces: int = 512
    reduce_range: bool = True
    mirror: bool = False
    threads: int | None = None
    trust: Sequence[str] = ()
    preprocessing: Annotated[Values, Group(Preprocessing, unset="always")]
    data: OtherData


@dataclass(kw_only=True)
class AuditConfig(TrainConfig):
    """Keys of ``python -m emodet.audit``, which trains short runs, and therefore accepts all keys of ``train``.

    Attributes:
        output: The folder for the page and the corrections; by default ``audit/NAME`` in the folder for outputs.
        quick: Whether to skip the slow checks, which train nets and run the detector.
        model: Model file for the check of the class order: a path, a shipped one (``int8``, ``accurate``, ``fp32``), or
            ``none`` to skip it.
        detector: One of `emodet.inference.detectors.DETECTORS`; ``none`` skips its check.
        detector_faces: Number of randomly drawn faces that the detector checks; null for all.
        gallery: Number of images in each gallery of the page.
        pictures: Whether the page shows images.
        out_of_fold: Short trainings for out-of-fold predictions, see `OutOfFoldOptions`.
        proposals: Conditions for proposed corrections, see `ProposalOptions`.
    """

    output: str | None = None
    quick: bool = False
    model: str = "int8"
    detector: str = "auto"
    detector_faces: int | None = 10000
    gallery: int = 48
    pictures: bool = True
    out_of_fold: Annotated[Values, Group(OutOfFoldOptions)]
    proposals: Annotated[Values, Group(ProposalOptions)]


_OF_COMMANDS = (TrainConfig, PrepareConfig, EvaluateConfig, ExportConfig, AuditConfig)
SCHEMAS: Mapping[str, type] = {each.__name__.removesuffix("Config").lower(): each for each in _OF_COMMANDS}
