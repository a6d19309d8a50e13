"""Pictures: POST /v1/recognize and POST /v1/annotate."""

import base64
import threading
import time
from collections.abc import Callable
from typing import Annotated, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from emodet.errors import EmodetError
from emodet.images import TooManyPixelsError, decode_rgb
from emodet.inference.faces import Face
from emodet.inference.pictures import HeatMap, draw, heat_maps, readable
from emodet.inference.pipeline import SCORE_TO_HIDE
from emodet.inference.recognizer import Recognizer
from emodet.app.openapi import BINARY, one_file, refused_with
from emodet.app.pool import Pool
from emodet.app.recognizers import Recognizers
from emodet.app.refusals import ApiError
from emodet.app.schema import FaceAnswer, HeatMapAnswer, Options, RecogniseOptions, Recognition, ShownOptions
from emodet.app.settings import Limits
from emodet.app.uploads import HeldBytes, read_picture

__all__ = ["picture_routes"]

UInt8 = npt.NDArray[np.uint8]
Result = TypeVar("Result")

_LEAST_SIDE = 8  # pixels; nothing smaller shows a face
_JPEG_QUALITY = 92
_POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")


def picture_routes(recognizers: Recognizers, pool: Pool, limits: Limits, stopping: threading.Event) -> APIRouter:
    """The two operations."""
    routes = APIRouter(prefix="/v1", tags=["pictures"])
    held = HeldBytes(limits.held_bytes)
    described = one_file("image/jpeg", "image/png", "image/webp")
    refused = refused_with(400, 404, 408, 413, 422, 429, 503)

    async def with_picture(request: Request, options: Options, work: Callable[[Recognizer, UInt8], Result]) -> Result:
        offer = recognizers.offer(options.model)
        detector = recognizers.detector_named(options.detector)
        pool.check()
        data = await read_picture(request, limits, held, stopping)

        def do() -> Result:
            recognizer = recognizers.recognizer(
                offer, detector, min_confidence=options.min_confidence, max_faces=options.max_faces
            )
            return work(recognizer, _decoded(data, limits))

        try:
            return await pool.run(do, request)
        finally:
            held.give_back(len(data))

    @routes.post("/recognize", responses=refused, openapi_extra=described, operation_id="recognize")
    async def recognize(request: Request, options: Annotated[RecogniseOptions, Query()]) -> Recognition:
        """Find the faces of a picture and say what they show.

        The body is the encoded picture itself (JPEG, PNG, WebP, BMP, TIFF, GIF or PNM; its Content-Type is not looked
        at), or a form with one file. EXIF rotation is applied first.
        """

        def work(recognizer: Recognizer, image: UInt8) -> Recognition:
            started = time.perf_counter()
            faces = recognizer(image)
            seconds = time.perf_counter() - started
            return Recognition(
                model=recognizers.offer(options.model).name,
                detector=recognizer.detector.name,
                width=image.shape[1],
                height=image.shape[0],
                recognised_ms=round(seconds * 1000, 2),
                faces=_answers(recognizer, image, faces, options.heat_maps),
            )

        return await with_picture(request, options, work)

    @routes.post(
        "/annotate",
        responses={**refused, 200: {"content": {"image/jpeg": BINARY}, "description": "The annotated picture."}},
        response_class=Response,
        openapi_extra=described,
        operation_id="annotate",
    )
    async def annotate(request: Request, options: Annotated[ShownOptions, Query()]) -> Response:
        """Draw boxes, emotions and bars into a picture; it comes back as JPEG, enlarged if it is small.

        The body is as in /v1/recognize.
        """
        data = await with_picture(request, options, lambda recognizer, image: _drawn(recognizer, image, options))
        return Response(data, media_type="image/jpeg")

    return routes


def _decoded(data: bytes, limits: Limits) -> UInt8:
    try:
        image = decode_rgb(data, name="picture", max_pixels=limits.pixels)
    except TooManyPixelsError:
        message = f"The picture has more than {limits.pixels:,} pixels."
        raise ApiError(422, "too_many_pixels", message, "Send a smaller one.") from None
    except EmodetError as problem:
        message = f"The picture cannot be read: {str(problem).removeprefix('picture: ')}."
        raise ApiError(422, "picture_unreadable", message, "Send a whole JPEG, PNG or WebP.") from None
    height, width = image.shape[:2]
    if min(height, width) < _LEAST_SIDE:
        message = f"{width}×{height} pixels are too few to show a face."
        raise ApiError(422, "picture_too_small", message, f"Send at least {_LEAST_SIDE}×{_LEAST_SIDE}.")
    return image


def _answers(recognizer: Recognizer, image: UInt8, faces: tuple[Face, ...], explained: int) -> list[FaceAnswer]:
    largest = sorted(faces, key=lambda face: face.box[0] - face.box[2])[:explained]
    maps = {id(face): heat_maps(recognizer, image, [face])[0] for face in largest}
    return [_answer(face, maps.get(id(face))) for face in faces]


def _answer(face: Face, heat: HeatMap | None) -> FaceAnswer:
    x1, y1, x2, y2 = (round(value, 2) for value in face.box)
    points = face.landmarks
    return FaceAnswer(
        box=(x1, y1, x2, y2),
        emotion=face.emotion,
        most_probable=face.most_probable,
        uncertain=face.uncertain,
        confidence=min(1.0, round(face.confidence, 6)),
        probabilities={name: round(value, 6) for name, value in face.probabilities.items()},
        detection_score=min(1.0, round(face.detection_score, 6)),
        landmarks=None
        if points is None
        else {name: (round(x, 2), round(y, 2)) for name, (x, y) in zip(_POINTS, points, strict=True)},
        valence=face.valence,
        arousal=face.arousal,
        heat_map=None if heat is None else _heat_answer(face, heat),
    )


def _heat_answer(face: Face, heat: HeatMap) -> HeatMapAnswer:
    png = base64.b64encode(_encoded(heat.crop, ".png")).decode()
    return HeatMapAnswer(
        emotion=face.most_probable,
        size=heat.heat.shape[0],
        values=[round(float(value), 4) for value in heat.heat.ravel()],
        crop=f"data:image/png;base64,{png}",
    )


def _drawn(recognizer: Recognizer, image: UInt8, options: ShownOptions) -> bytes:
    least = recognizer.detector.min_score
    found = recognizer.detect(image, min_score=min(SCORE_TO_HIDE, least) if options.blur_faces else None)
    faces = recognizer.recognise(image, [each for each in found if each.score >= least])
    large, moved = readable(image, faces)
    factor = large.shape[1] / image.shape[1]
    hidden = [tuple(value * factor for value in each.box) for each in found] if options.blur_faces else None
    return _encoded(draw(large, moved, hidden=hidden), ".jpg")


def _encoded(picture: UInt8, ending: str) -> bytes:
    settings = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if ending == ".jpg" else []
    done, data = cv2.imencode(ending, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), settings)
    if not done:
        message = f"A picture of {picture.shape[1]}×{picture.shape[0]} pixels cannot be written as JPEG."
        raise ApiError(422, "too_many_pixels", message, "Send a smaller one.")
    return bytes(data.tobytes())
