"""What requests may say and what answers hold, described for programs (OpenAPI)."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "ErrorAnswer",
    "FaceAnswer",
    "Health",
    "HeatMapAnswer",
    "ModelAnswer",
    "ModelClass",
    "ModelsAnswer",
    "Options",
    "Problem",
    "RecogniseOptions",
    "Recognition",
    "ShownOptions",
    "Stretch",
    "TermsOfData",
    "TimelineAnswer",
    "TrackAnswer",
    "VideoFiles",
    "VideoOptions",
    "VideoStatus",
]

DetectorName = Literal["auto", "yunet", "centerface", "none"]
Probability = Annotated[float, Field(ge=0, le=1)]


class Options(BaseModel):
    """A mistyped name is refused."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(
        None, max_length=64, description="A name from /v1/models; none for the default.", examples=["emodet-int8"]
    )
    detector: DetectorName = Field(
        "auto", description="What finds the faces. auto: the server's; none: the picture is one face, cut already."
    )
    min_confidence: Probability = Field(0.0, description="Below this probability an emotion is `uncertain`.")
    max_faces: int | None = Field(None, ge=1, le=1000, description="Only so many faces, the largest first.")


class RecogniseOptions(Options):
    """Of POST /v1/recognize."""

    heat_maps: int = Field(0, ge=0, le=3, description="For how many faces to say what the answer rests on.")


class ShownOptions(Options):
    """Of POST /v1/annotate."""

    blur_faces: bool = Field(False, description="Make faces unrecognisable.")


class VideoOptions(ShownOptions):
    """Of POST /v1/videos."""

    every: int = Field(1, ge=1, le=1000, description="Recognise every so many frames.")
    smooth: float = Field(0.4, ge=0, le=60, description="Calm readings over about so many seconds; 0 for not at all.")
    annotate: bool = Field(True, description="Also make the annotated video.")


class Problem(BaseModel):
    """What went wrong."""

    code: str = Field(description="For programs.", examples=["picture_unreadable"])
    message: str = Field(description="What is wrong, for people.")
    way_out: str = Field(description="What to do about it.")


class ErrorAnswer(BaseModel):
    """Every answer with a status from 400 on."""

    error: Problem


class HeatMapAnswer(BaseModel):
    """What a face's answer rests on: how far its log odds fall where the surroundings of a pixel are covered."""

    emotion: str
    size: int = Field(description="Side of the crop and the map in pixels.", examples=[48])
    values: list[float] = Field(description="size × size numbers, row by row; below 0 where covering speaks for it.")
    crop: str = Field(description="The crop that the model saw, as a data: address of a PNG.")


class FaceAnswer(BaseModel):
    """One face."""

    box: tuple[float, float, float, float] = Field(
        description="x1, y1, x2, y2 in pixels of the upright picture, x2 and y2 exclusive; may reach outside it.",
        examples=[[178.2, 77.9, 268.1, 203.0]],
    )
    emotion: str = Field(description="The most probable class, or `uncertain`.", examples=["happiness"])
    most_probable: str = Field(description="The most probable class, certain or not.", examples=["happiness"])
    uncertain: bool = Field(description="Whether no class reaches min_confidence.")
    confidence: Probability = Field(description="The probability of the most probable class.")
    probabilities: dict[str, float] = Field(description="Class to calibrated probability; they sum to 1.")
    detection_score: Probability = Field(description="How sure the detector is that this is a face.")
    landmarks: dict[str, tuple[float, float]] | None = Field(
        description="left_eye, right_eye, nose, left_mouth, right_mouth as x, y in pixels; left in the picture."
    )
    valence: float | None = Field(description="Unpleasant to pleasant, -1 to 1, where the model says.")
    arousal: float | None = Field(description="Calm to excited, -1 to 1, where the model says.")
    heat_map: HeatMapAnswer | None = None


class Recognition(BaseModel):
    """The answer to one picture."""

    model: str = Field(examples=["emodet-int8"])
    detector: str = Field(examples=["centerface"])
    width: int = Field(description="Of the upright picture, in pixels.")
    height: int = Field(description="Of the upright picture, in pixels.")
    recognised_ms: float = Field(description="Milliseconds for finding and recognising, without decoding and waiting.")
    faces: list[FaceAnswer] = Field(description="The surest detection first; empty where there is no face.")


class ModelClass(BaseModel):
    """A class, in the order of the model's columns."""

    id: int = Field(description="Its id in AffectNet's order.")
    name: str
    colour: str = Field(examples=["#CFB80D"])


class TermsOfData(BaseModel):
    """A data set that the model was trained on."""

    name: str
    terms: str


class ModelAnswer(BaseModel):
    """What a model says about itself."""

    name: str
    precision: str
    bytes: int
    sha256: str
    classes: list[ModelClass]
    metrics: dict[str, dict[str, float]] = Field(description="Split to metric to value.")
    training_data: list[TermsOfData]
    preprocessing: dict[str, object] = Field(description="How a face is cut for it.")
    temperature: float
    commit: str
    fingerprint: str
    format_version: int
    providers: list[str] = Field(description="What runs it, in ONNX Runtime's words.")
    card: str | None = Field(description="The model card, Markdown.")


class ModelsAnswer(BaseModel):
    """The models that requests can name."""

    default: str
    models: list[str]


class Health(BaseModel):
    """Whether the server lives, and how busy it is."""

    status: Literal["ok"]
    version: str
    waiting: int = Field(description="Pictures that wait.")
    running: int = Field(description="Pictures that are being recognised.")
    videos: int = Field(description="Videos that wait or are being recognised.")


class VideoFiles(BaseModel):
    """Addresses of results, relative to the server's; null where they are not there (yet)."""

    annotated: str | None
    rows_csv: str | None
    rows_jsonl: str | None
    timeline: str | None
    timeline_png: str | None


class VideoStatus(BaseModel):
    """How far a video is."""

    id: str = Field(description="Random; whoever knows it can read the results.")
    state: Literal["waiting", "running", "done", "failed"]
    error: Problem | None
    width: int
    height: int
    frame_rate: float = Field(description="Frames per second.")
    duration_s: float | None
    frames_done: int
    frames_total: int | None = Field(description="As the file says; null where it does not.")
    progress: float | None = Field(description="0 to 1; null where the length is not known.")
    frames_per_second: float
    faces: int = Field(description="Rows so far.")
    rows: int = Field(description="Rows so far.")
    emotions: dict[str, int] = Field(description="Emotion to rows.")
    files: VideoFiles
    expires_at: str | None = Field(description="When the results will be deleted, ISO 8601, UTC.")


class Stretch(BaseModel):
    """A time in which a face shows one emotion."""

    start_s: float
    end_s: float
    emotion: str
    confidence: float = Field(description="Its mean probability.")


class TrackAnswer(BaseModel):
    """One face over time."""

    track_id: int
    stretches: list[Stretch]


class TimelineAnswer(BaseModel):
    """Emotion by time."""

    duration_s: float
    tracks: list[TrackAnswer]
