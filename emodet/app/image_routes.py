"""Images: POST /v1/recognize and POST /v1/annotate."""

import base64
import time
from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from emodet.app.errors import ApiError, error_responses
from emodet.app.processes import ProcessEnded
from emodet.app.schema import FaceAnswer, HeatMapAnswer, ImageOptions, Options, RecogniseOptions, Recognition
from emodet.app.state import ServerState, State
from emodet.app.uploads import BINARY, image_upload, one_file
from emodet.arrays import UInt8
from emodet.errors import EmodetError
from emodet.images import TooManyPixelsError
from emodet.inference.faces import POINTS, Face
from emodet.inference.heatmaps import HeatMap, heat_maps
from emodet.inference.opening import MIN_SIDE
from emodet.inference.overlay import draw, encoded
from emodet.inference.pipeline import SCORE_TO_HIDE
from emodet.inference.recognizer import Recognizer

Result = TypeVar("Result")

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
        hidden = [each.box for each in found] if options.blur_faces else None
        try:
            return encoded(draw(image, faces, hidden=hidden, enlarge=True), ".jpg")
        except EmodetError as problem:  # JPEG has at most 65,500 pixels a side
            raise ApiError(422, "too_many_pixels", f"{problem}.", "Send a smaller one.") from None

    return Response(await _run(request, state, options, work), media_type="image/jpeg")


async def _run(
    request: Request, state: ServerState, options: Options, work: Callable[[Recognizer, UInt8], Result]
) -> Result:
    """Read the upload, then decode and process it in a worker thread."""
    recognizer = state.recognizers.recognizer(options)
    state.check_queue()
    async with image_upload(request, state) as data:
        return await state.run(lambda: work(recognizer, _decoded(data, state)))


def _decoded(data: bytes, state: ServerState) -> UInt8:
    pixels, seconds = state.limits.pixels, state.limits.decode_seconds
    code, way_out = "picture_unreadable", "Send a smaller one."
    try:
        image = state.decoders.decode(data, pixels)
    except TooManyPixelsError:
        code, message = "too_many_pixels", f"The image has more than {pixels:,} pixels."
    except TimeoutError:
        message = f"The image was not decoded within {seconds:g} seconds."
        way_out = "Save it as an ordinary JPEG or PNG."
    except ProcessEnded:
        message = "The image could not be decoded: its decoder stopped."
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


def _answer(face: Face, heat: HeatMap | None) -> FaceAnswer:
    explained = None
    if heat is not None:
        values = [round(float(value), 4) for value in heat.heat.ravel()]
        crop = f"data:image/png;base64,{base64.b64encode(encoded(heat.crop, '.png')).decode()}"
        explained = HeatMapAnswer(emotion=face.most_probable, size=heat.heat.shape[0], values=values, crop=crop)
    x1, y1, x2, y2 = (round(value, 2) for value in face.box)
    points = {name: (round(x, 2), round(y, 2)) for name, (x, y) in zip(POINTS, face.landmarks or (), strict=False)}
    return FaceAnswer(
        box=(x1, y1, x2, y2),
        emotion=face.emotion,
        most_probable=face.most_probable,
        uncertain=face.uncertain,
        confidence=min(1.0, round(face.confidence, 6)),
        probabilities={name: round(value, 6) for name, value in face.probabilities.items()},
        detection_score=min(1.0, round(face.detection_score, 6)),
        landmarks=points or None,
        valence=face.valence,
        arousal=face.arousal,
        heat_map=explained,
    )
