"""Images: POST /v1/recognize and POST /v1/annotate."""

import base64
import time
from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from emodet.app.errors import ApiError, error_responses
from emodet.app.processes import Decoders, ProcessEnded
from emodet.app.schema import FaceAnswer, HeatMapAnswer, ImageOptions, Options, RecogniseOptions, Recognition
from emodet.app.settings import Limits
from emodet.app.state import ServerState, State
from emodet.app.uploads import BINARY, image_upload, one_file
from emodet.arrays import UInt8
from emodet.errors import EmodetError
from emodet.images import TooManyPixelsError
from emodet.inference.faces import Face
from emodet.inference.pictures import HeatMap, draw, encoded, heat_maps, readable
from emodet.inference.pipeline import SCORE_TO_HIDE
from emodet.inference.recognizer import Recognizer

Result = TypeVar("Result")

_MIN_SIDE = 8  # pixels
_POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
_BODY = one_file("image/jpeg", "image/png", "image/webp")
_ERRORS = error_responses(400, 404, 408, 413, 422, 429, 503)

router = APIRouter(prefix="/v1", tags=["images"])


@router.post("/recognize", responses=_ERRORS, openapi_extra=_BODY, operation_id="recognize")
async def recognize(request: Request, state: State, options: Annotated[RecogniseOptions, Query()]) -> Recognition:
    """Detect the faces of an image and recognise their emotions.

    The body is the encoded image (JPEG, PNG, WebP, BMP, TIFF, GIF or PNM; the Content-Type is ignored), or a form with
    one file. EXIF rotation is applied first.
    """
    model = state.recognizers.offer(options.model).name

    def work(recognizer: Recognizer, image: UInt8) -> Recognition:
        started = time.perf_counter()
        faces = recognizer(image)
        seconds = time.perf_counter() - started
        largest = sorted(faces, key=lambda face: face.box[0] - face.box[2])[: options.heat_maps]
        maps = {id(face): heat_maps(recognizer, image, [face])[0] for face in largest}
        return Recognition(
            model=model,
            detector=recognizer.detector.name,
            width=image.shape[1],
            height=image.shape[0],
            recognised_ms=round(seconds * 1000, 2),
            faces=[_answer(face, maps.get(id(face))) for face in faces],
        )

    return await _run(request, state, options, work)


@router.post(
    "/annotate",
    responses={**_ERRORS, 200: {"content": {"image/jpeg": BINARY}, "description": "The annotated image."}},
    response_class=Response,
    openapi_extra=_BODY,
    operation_id="annotate",
)
async def annotate(request: Request, state: State, options: Annotated[ImageOptions, Query()]) -> Response:
    """Draw boxes, emotions and bars into an image. Returns JPEG; small images are enlarged.

    The body is as for /v1/recognize.
    """

    def work(recognizer: Recognizer, image: UInt8) -> bytes:
        min_score = recognizer.detector.min_score
        found = recognizer.detect(image, min_score=min(SCORE_TO_HIDE, min_score) if options.blur_faces else None)
        faces = recognizer.recognise(image, [each for each in found if each.score >= min_score])
        large, moved = readable(image, faces)
        factor = large.shape[1] / image.shape[1]
        hidden = [tuple(value * factor for value in each.box) for each in found] if options.blur_faces else None
        try:
            return encoded(draw(large, moved, hidden=hidden), ".jpg")
        except EmodetError as problem:  # JPEG has at most 65,500 pixels a side
            raise ApiError(422, "too_many_pixels", f"{problem}.", "Send a smaller one.") from None

    return Response(await _run(request, state, options, work), media_type="image/jpeg")


async def _run(
    request: Request, state: ServerState, options: Options, work: Callable[[Recognizer, UInt8], Result]
) -> Result:
    """Read the upload, then decode and process it in a worker thread."""
    recognizer = state.recognizers.recognizer(options)
    state.check_queue()
    async with image_upload(request, state.limits, state.memory) as data:
        return await state.run(lambda: work(recognizer, _decoded(data, state.decoders, state.limits)))


def _decoded(data: bytes, decoders: Decoders, limits: Limits) -> UInt8:
    message, way_out = "The image could not be decoded: its decoder stopped.", "Send a smaller one."
    try:
        image = decoders.decode(data, limits.pixels)
    except TooManyPixelsError:
        message = f"The image has more than {limits.pixels:,} pixels."
        raise ApiError(422, "too_many_pixels", message, way_out) from None
    except TimeoutError:
        message = f"The image was not decoded within {limits.decode_seconds:g} seconds."
        raise ApiError(422, "picture_unreadable", message, "Save it as an ordinary JPEG or PNG.") from None
    except ProcessEnded:
        raise ApiError(422, "picture_unreadable", message, way_out) from None
    except EmodetError as problem:
        message = f"The image cannot be read: {str(problem).removeprefix('image: ')}."
        raise ApiError(422, "picture_unreadable", message, "Send a complete JPEG, PNG or WebP file.") from None
    height, width = image.shape[:2]
    if min(height, width) < _MIN_SIDE:
        message = f"{width}×{height} pixels are too few for a face."
        raise ApiError(422, "picture_too_small", message, f"Send at least {_MIN_SIDE}×{_MIN_SIDE}.")
    return image


def _answer(face: Face, heat: HeatMap | None) -> FaceAnswer:
    x1, y1, x2, y2 = (round(value, 2) for value in face.box)
    landmarks = None
    if face.landmarks is not None:
        points = zip(_POINTS, face.landmarks, strict=True)
        landmarks = {name: (round(x, 2), round(y, 2)) for name, (x, y) in points}
    return FaceAnswer(
        box=(x1, y1, x2, y2),
        emotion=face.emotion,
        most_probable=face.most_probable,
        uncertain=face.uncertain,
        confidence=min(1.0, round(face.confidence, 6)),
        probabilities={name: round(value, 6) for name, value in face.probabilities.items()},
        detection_score=min(1.0, round(face.detection_score, 6)),
        landmarks=landmarks,
        valence=face.valence,
        arousal=face.arousal,
        heat_map=None if heat is None else _heat_answer(face, heat),
    )


def _heat_answer(face: Face, heat: HeatMap) -> HeatMapAnswer:
    png = base64.b64encode(encoded(heat.crop, ".png")).decode()
    return HeatMapAnswer(
        emotion=face.most_probable,
        size=heat.heat.shape[0],
        values=[round(float(value), 4) for value in heat.heat.ravel()],
        crop=f"data:image/png;base64,{png}",
    )
