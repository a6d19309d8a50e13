"""Operations on images, models and health. `video_routes` contains those on videos."""

import base64
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import FileResponse, Response

from emodet import __version__
from emodet.app.errors import ApiError, error_responses
from emodet.app.processes import ProcessEnded
from emodet.app.schema import (
    FaceResponse,
    Health,
    HeatMapResponse,
    ImageOptions,
    ModelClass,
    ModelResponse,
    ModelsResponse,
    Options,
    RecogniseOptions,
    Recognition,
)
from emodet.app.server import Server, ServerDep
from emodet.app.uploads import BINARY, image_upload, one_file
from emodet.arrays import UInt8
from emodet.errors import EmodetError
from emodet.images import TooManyPixelsError
from emodet.inference.detectors import find_faces
from emodet.inference.faces import Face
from emodet.inference.heatmaps import heat_maps
from emodet.inference.opening import MIN_SIDE
from emodet.inference.overlay import HeatMap, draw, encoded
from emodet.inference.pipeline import SCORE_TO_HIDE
from emodet.inference.recognizer import Recognizer
from emodet.palette import class_colours

Result = TypeVar("Result")

_BODY = one_file("image/jpeg", "image/png", "image/webp")
_ERRORS = error_responses(400, 404, 408, 413, 422, 429, 503)
_OF_INFO = ("precision", "metrics", "training_data", "temperature", "commit", "fingerprint", "format_version")
_ONNX: dict[str, Any] = {"content": {"application/octet-stream": {}}}

router = APIRouter(prefix="/v1")
health = APIRouter(tags=["server"])


@router.post("/recognize", tags=["images"], responses=_ERRORS, openapi_extra=_BODY, operation_id="recognize")
async def recognize(request: Request, server: ServerDep, options: Annotated[RecogniseOptions, Query()]) -> Recognition:
    """Detect the faces of an image and recognise their emotions.

    The body is the encoded image (JPEG, PNG, WebP, BMP, TIFF, GIF or PNM; the Content-Type is ignored), or a form with
    one file. EXIF rotation is applied.
    """
    model = server.model(options.model).name

    def work(recognizer: Recognizer, image: UInt8) -> Recognition:
        started = time.perf_counter()
        faces = recognizer(image)
        seconds = time.perf_counter() - started
        largest = sorted(faces, key=lambda face: face.box[0] - face.box[2])[: options.heat_maps]
        maps = dict(zip(largest, heat_maps(recognizer, image, largest), strict=True))
        return Recognition(
            model=model,
            detector=recognizer.detector.name,
            width=image.shape[1],
            height=image.shape[0],
            recognised_ms=round(seconds * 1000, 2),
            faces=[_face_response(face, maps.get(face)) for face in faces],
        )

    return await _run(request, server, options, work)


@router.post(
    "/annotate",
    tags=["images"],
    responses={**_ERRORS, 200: {"content": {"image/jpeg": BINARY}, "description": "The annotated image."}},
    response_class=Response,
    openapi_extra=_BODY,
    operation_id="annotate",
)
async def annotate(request: Request, server: ServerDep, options: Annotated[ImageOptions, Query()]) -> Response:
    """Draw boxes, emotions and bars into an image. Returns JPEG; small images are enlarged.

    The body is as for /v1/recognize.
    """

    def work(recognizer: Recognizer, image: UInt8) -> bytes:
        min_score = recognizer.detector.min_score
        lowest = min(SCORE_TO_HIDE, min_score) if options.blur_faces else None
        boxes = find_faces(recognizer.detector, image, min_score=lowest)  # all are hidden, regardless of max_faces
        faces = recognizer.recognise(image, recognizer.largest([each for each in boxes if each.score >= min_score]))
        hidden = [each.box for each in boxes] if options.blur_faces else None
        try:
            return encoded(draw(image, faces, hidden=hidden, enlarge=True), ".jpg")
        except EmodetError as problem:  # JPEG allows at most 65,500 pixels per side
            raise ApiError(422, "too_many_pixels", f"{problem}.", "Send a smaller image.") from None

    return Response(await _run(request, server, options, work), media_type="image/jpeg")


async def _run(
    request: Request, server: Server, options: Options, work: Callable[[Recognizer, UInt8], Result]
) -> Result:
    """Read the upload, then decode and process it in a worker thread."""
    recognizer = server.recognizer(options)
    server.check_queue()
    async with image_upload(request, server) as data:
        return await server.run(lambda: work(recognizer, _decoded(data, server)))


def _decoded(data: bytes, server: Server) -> UInt8:
    pixels, seconds = server.limits.pixels, server.limits.decode_seconds
    code, way_out = "picture_unreadable", "Send a smaller image."
    try:
        image = server.decoders.decode(data, pixels)
    except TooManyPixelsError:
        code, message = "too_many_pixels", f"The image has more than {pixels:,} pixels."
    except TimeoutError:
        message = f"The image was not decoded within {seconds:g} seconds."
        way_out = "Save it as an ordinary JPEG or PNG."
    except ProcessEnded:
        message = "The image could not be decoded: the decoder crashed."
    except EmodetError as problem:
        message = f"The image cannot be read: {str(problem).removeprefix('image: ')}."
        way_out = "Send a complete JPEG, PNG or WebP file."
    else:
        height, width = image.shape[:2]
        if min(height, width) >= MIN_SIDE:
            return image
        code, message = "picture_too_small", f"{width}×{height} pixels are too few for a face."
        way_out = f"Send at least {MIN_SIDE}×{MIN_SIDE}."
    raise ApiError(422, code, message, way_out)


def _face_response(face: Face, heat: HeatMap | None) -> FaceResponse:
    response = FaceResponse.model_validate(face)
    if heat is not None:
        values = [round(float(value), 4) for value in heat.heat.ravel()]
        crop = f"data:image/png;base64,{base64.b64encode(encoded(heat.crop, '.png')).decode()}"
        size = heat.heat.shape[0]
        response.heat_map = HeatMapResponse(emotion=face.most_probable, size=size, values=values, crop=crop)
    return response


@health.get("/healthz", operation_id="health")
async def get_health(server: ServerDep) -> Health:
    """Return status and load of the server. Needs no token."""
    running, videos = server.workers.borrowed_tokens, server.jobs.active
    return Health(status="ok", version=__version__, waiting=server.waiting, running=int(running), videos=videos)


@router.get("/models", tags=["models"], responses=error_responses(), operation_id="models")
async def list_models(server: ServerDep) -> ModelsResponse:
    """List the available models."""
    return ModelsResponse(default=server.model().name, models=list(server.models))


@router.get("/model", tags=["models"], responses=error_responses(404, 422), operation_id="model")
async def get_model(
    server: ServerDep,
    model: Annotated[str | None, Query(max_length=64, description="A name from /v1/models.")] = None,
) -> ModelResponse:
    """Return the metadata of a model: classes, metrics, terms of the training data, preprocessing, model card."""
    served = server.model(model)
    info = served.file.info
    colours = zip(info.class_names, class_colours(info.class_names), strict=True)
    return ModelResponse(
        name=served.name,
        bytes=served.path.stat().st_size,
        sha256=served.file.sha256,
        classes=[ModelClass(id=number, name=name, colour=colour) for number, (name, colour) in enumerate(colours)],
        preprocessing=dict(info.preprocessing.to_dict()),
        providers=list(served.file.providers),
        card=served.card,
        **{name: getattr(info, name) for name in _OF_INFO},
    )


@router.get(
    "/models/{name}.onnx",
    tags=["models"],
    responses={
        **error_responses(404, 416),
        200: {**_ONNX, "description": "The model file."},
        206: {**_ONNX, "description": "A part of the file."},
        304: {"description": "Not modified."},
    },
    response_class=Response,
    operation_id="model_file",
)
async def get_model_file(request: Request, server: ServerDep, name: Annotated[str, Path(max_length=64)]) -> Response:
    """Download a model file, to run it elsewhere, for example in a browser."""
    served = server.model(name)
    headers = {"ETag": f'"{served.file.sha256}"', "Cache-Control": "no-cache"}
    if served.file.sha256 in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return FileResponse(served.path, media_type="application/octet-stream", headers=headers)
