"""Models: GET /v1/models, GET /v1/model, GET /v1/models/NAME.onnx."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import FileResponse, Response

from emodet.emotions import EMOTIONS
from emodet.palette import EMOTION_COLOURS
from emodet.app.openapi import refused_with
from emodet.app.recognizers import Recognizers
from emodet.app.refusals import ApiError
from emodet.app.schema import ModelAnswer, ModelClass, ModelsAnswer, TermsOfData

__all__ = ["model_routes"]


def model_routes(recognizers: Recognizers) -> APIRouter:
    """The three operations."""
    routes = APIRouter(prefix="/v1", tags=["models"])

    @routes.get("/models", responses=refused_with(), operation_id="models")
    async def models() -> ModelsAnswer:
        """Which models requests can name."""
        return ModelsAnswer(default=recognizers.default, models=list(recognizers.offers))

    @routes.get("/model", responses=refused_with(404, 422), operation_id="model")
    async def model(
        model: Annotated[str | None, Query(max_length=64, description="A name from /v1/models.")] = None,
    ) -> ModelAnswer:
        """What a model says about itself: classes, figures, terms, how a face is cut for it, the model card."""
        offer = recognizers.offer(model)
        info = offer.file.info
        return ModelAnswer(
            name=offer.name,
            precision=info.precision,
            bytes=offer.size,
            sha256=offer.digest,
            classes=[
                ModelClass(id=EMOTIONS.index(name), name=name, colour=EMOTION_COLOURS[name])
                for name in info.class_names
            ],
            metrics={split: dict(values) for split, values in info.metrics.items()},
            training_data=[TermsOfData(name=each.name, terms=each.terms) for each in info.training_data],
            preprocessing=dict(info.preprocessing.to_dict()),
            temperature=info.temperature,
            commit=info.commit,
            fingerprint=info.fingerprint,
            format_version=info.format_version,
            providers=list(offer.file.providers),
            card=offer.card,
        )

    @routes.get(
        "/models/{name}.onnx",
        responses={
            **refused_with(404, 416),
            200: {"content": {"application/octet-stream": {}}, "description": "The model file."},
            206: {"content": {"application/octet-stream": {}}, "description": "A part of it."},
            304: {"description": "It is still the same."},
        },
        response_class=Response,
        operation_id="model_file",
    )
    async def model_file(request: Request, name: Annotated[str, Path(max_length=64)]) -> Response:
        """A model file, to run it elsewhere: in a browser, for instance."""
        offer = recognizers.offers.get(name)
        if offer is None:
            way_out = f"There are {', '.join(recognizers.offers)}."
            raise ApiError(404, "not_found", "There is no model of this name.", way_out)
        headers = {"ETag": f'"{offer.digest}"', "Cache-Control": "no-cache"}
        if offer.digest in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return FileResponse(offer.path, media_type="application/octet-stream", headers=headers)

    return routes
