"""Request parameters and responses of the REST interface, as in its OpenAPI description."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from emodet.inference.faces import MIN_CONFIDENCE, POINTS
from emodet.modelfile import TrainingData

DetectorName = Literal["auto", "yunet", "centerface", "none"]
Probability = Annotated[float, Field(ge=0, le=1)]
Rounded = Annotated[float, BeforeValidator(lambda value: round(value, 6))]
Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(lambda value: min(1.0, round(value, 6)))]
Pixels = Annotated[float, BeforeValidator(lambda value: round(value, 2))]


class Options(BaseModel):
    """Options of all operations. Unknown options are errors."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(
        None, max_length=64, description="A name from /v1/models; omit it for the default.", examples=["emodet-int8"]
    )
    detector: DetectorName = Field(
        "auto", description="Face detector. auto: the server's default; none: the image is a cropped face."
    )
    min_confidence: Probability = Field(
        MIN_CONFIDENCE, description="Predictions below this probability are `uncertain`; 0 for never."
    )
    max_faces: int | None = Field(None, ge=1, le=1000, description="Maximum number of faces, the largest first.")
    prior: Literal["trained", "balanced"] = Field(
        "trained",
        description="trained: emotions are as frequent as in the training data; balanced: rare emotions are predicted "
        "more often, at a cost in accuracy.",
    )


class RecogniseOptions(Options):
    """Options of POST /v1/recognize."""

    heat_maps: int = Field(0, ge=0, le=3, description="Number of faces to explain with a heat map, the largest first.")


class ImageOptions(Options):
    """Options of POST /v1/annotate."""

    blur_faces: bool = Field(False, description="Make all faces unrecognisable, including those beyond `max_faces`.")


class VideoOptions(ImageOptions):
    """Options of POST /v1/videos."""

    every: int = Field(1, ge=1, le=1000, description="Recognise every N-th frame.")
    smooth: float = Field(0.4, ge=0, le=60, description="Time constant of smoothing in seconds; 0 for none.")
    annotate: bool = Field(True, description="Also write the annotated video.")


class Problem(BaseModel):
    """An error."""

    code: str = Field(description="Identifier for programs.", examples=["picture_unreadable"])
    message: str = Field(description="What is wrong.")
    way_out: str = Field(description="What to do about it.")


class ErrorResponse(BaseModel):
    """Response for each status from 400."""

    error: Problem


class HeatMapResponse(BaseModel):
    """Occlusion map: decrease of the log odds when the surroundings of a pixel are covered."""

    emotion: str
    size: int = Field(description="Side of the crop and the map in pixels.", examples=[48])
    values: list[float] = Field(description="size × size values, row by row; negative if covering raises the odds.")
    crop: str = Field(description="The model's input crop, as a data: URL of a PNG.")


class FaceResponse(BaseModel):
    """One face, converted from `emodet.inference.faces.Face`."""

    model_config = ConfigDict(from_attributes=True)

    box: tuple[Pixels, Pixels, Pixels, Pixels] = Field(
        description="x1, y1, x2, y2 in pixels of the upright image, x2 and y2 exclusive; can extend beyond the image.",
        examples=[[178.2, 77.9, 268.1, 203.0]],
    )
    emotion: str = Field(description="The most probable class, or `uncertain`.", examples=["happiness"])
    most_probable: str = Field(description="The most probable class.", examples=["happiness"])
    uncertain: bool = Field(description="Whether no class reaches min_confidence.")
    confidence: Share = Field(description="Probability of the most probable class.")
    probabilities: dict[str, Rounded] = Field(description="Calibrated probability by class; the sum is 1.")
    detection_score: Share = Field(description="Score of the face detection.")
    landmarks: Annotated[
        dict[str, tuple[Pixels, Pixels]] | None,
        BeforeValidator(lambda points: dict(zip(POINTS, points, strict=True)) if points else None),
    ] = Field(description="left_eye, right_eye, nose, left_mouth, right_mouth as x, y in pixels; left in the image.")
    valence: float | None = Field(description="-1 (unpleasant) to 1 (pleasant); null if the model has no such output.")
    arousal: float | None = Field(description="-1 (calm) to 1 (excited); null if the model has no such output.")
    heat_map: HeatMapResponse | None = None


class Recognition(BaseModel):
    """The faces of one image."""

    model: str = Field(examples=["emodet-int8"])
    detector: str = Field(examples=["centerface"])
    width: int = Field(description="Width of the upright image, in pixels.")
    height: int = Field(description="Height of the upright image, in pixels.")
    recognised_ms: float = Field(description="Time for detection and recognition, without decoding and queueing.")
    faces: list[FaceResponse] = Field(description="By detection score, highest first; empty if there is no face.")


class ModelClass(BaseModel):
    """A class, in the order of the model's outputs."""

    id: int = Field(description="Index of the class in the outputs; for the eight emotions AffectNet's id.")
    name: str
    colour: str = Field(examples=["#CFB80D"])


class ModelResponse(BaseModel):
    """Metadata of a model."""

    name: str
    precision: str
    bytes: int
    sha256: str
    classes: list[ModelClass]
    metrics: dict[str, dict[str, float]] = Field(description="Value by split and metric.")
    training_data: list[TrainingData]
    preprocessing: dict[str, object] = Field(description="Parameters of face crops for the model.")
    temperature: float
    commit: str
    fingerprint: str
    format_version: int
    providers: list[str] = Field(description="ONNX Runtime execution providers.")
    card: str | None = Field(description="The model card, Markdown.")


class ModelsResponse(BaseModel):
    """The available models."""

    default: str
    models: list[str]


class Health(BaseModel):
    """Status and load of the server."""

    status: Literal["ok"]
    version: str
    waiting: int = Field(description="Images in the queue.")
    running: int = Field(description="Images being recognised.")
    videos: int = Field(description="Videos being uploaded, in the queue or being recognised.")


class VideoFiles(BaseModel):
    """URLs of the results, relative to the server; null while a result does not exist."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    annotated: str | None = None
    rows_csv: str | None = None
    rows_jsonl: str | None = None
    timeline: str | None = None
    timeline_png: str | None = None


class VideoStatus(BaseModel):
    """Status and progress of a video."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    id: str = Field(description="Random id, which grants access to the results.")
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    error: Problem | None = None
    width: int = 0
    height: int = 0
    frame_rate: float = Field(default=0.0, description="Frames per second.")
    duration_s: float | None = None
    frames_done: int = 0
    frames_total: int | None = Field(default=None, description="From the file's header; null if unknown.")
    progress: float | None = Field(default=None, description="0 to 1; null if the length is unknown.")
    frames_per_second: float = 0.0
    damaged: int = Field(default=0, description="Frames that could not be decoded or are missing, known at the end.")
    partly_damaged: int = Field(default=0, description="Frames recognised with visible damage, known at the end.")
    rows: int = Field(default=0, description="Rows so far.")
    emotions: dict[str, int] = Field(default={}, description="Number of rows by emotion.")
    files: VideoFiles = VideoFiles()
    expires_at: str | None = Field(default=None, description="Time when the results will be deleted, ISO 8601, UTC.")
