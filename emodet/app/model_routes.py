"""Models and health: GET /v1/models, /v1/model, /v1/models/NAME.onnx, /healthz."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import FileResponse, Response

from emodet import __version__
from emodet.app.errors import error_responses
from emodet.app.schema import Health, ModelAnswer, ModelClass, ModelsAnswer, TermsOfData
from emodet.app.state import State
from emodet.palette import class_colours

_COPIED = ("precision", "temperature", "commit", "fingerprint", "format_version")

router = APIRouter(prefix="/v1", tags=["models"])
health = APIRouter(tags=["server"])


@health.get("/healthz", operation_id="health")
async def get_health(state: State) -> Health:
    """Status and load of the server. Needs no token."""
    running, videos = state.workers.borrowed_tokens, state.jobs.active
    return Health(status="ok", version=__version__, waiting=state.waiting, running=int(running), videos=videos)


@router.get("/models", responses=error_responses(), operation_id="models")
async def list_models(state: State) -> ModelsAnswer:
    """The available models."""
    return ModelsAnswer(default=state.recognizers.default, models=list(state.recognizers.offers))


@router.get("/model", responses=error_responses(404, 422), operation_id="model")
async def get_model(
    state: State,
    model: Annotated[str | None, Query(max_length=64, description="A name from /v1/models.")] = None,
) -> ModelAnswer:
    """Metadata of a model: classes, metrics, terms of the training data, preprocessing, model card."""
    offer = state.recognizers.offer(model)
    info = offer.file.info
    names = info.class_names
    return ModelAnswer(
        name=offer.name,
        bytes=offer.path.stat().st_size,
        sha256=offer.file.sha256,
        classes=[
            ModelClass(id=number, name=name, colour=colour)
            for number, (name, colour) in enumerate(zip(names, class_colours(names), strict=True))
        ],
        metrics={split: dict(values) for split, values in info.metrics.items()},
        training_data=[TermsOfData(name=each.name, terms=each.terms) for each in info.training_data],
        preprocessing=dict(info.preprocessing.to_dict()),
        providers=list(offer.file.providers),
        card=offer.card,
        **{name: getattr(info, name) for name in _COPIED},
    )


@router.get(
    "/models/{name}.onnx",
    responses={
        **error_responses(404, 416),
        200: {"content": {"application/octet-stream": {}}, "description": "The model file."},
        206: {"content": {"application/octet-stream": {}}, "description": "A part of the file."},
        304: {"description": "Not modified."},
    },
    response_class=Response,
    operation_id="model_file",
)
async def get_model_file(request: Request, state: State, name: Annotated[str, Path(max_length=64)]) -> Response:
    """A model file, to run it elsewhere, for example in a browser."""
    offer = state.recognizers.offer(name)
    headers = {"ETag": f'"{offer.file.sha256}"', "Cache-Control": "no-cache"}
    if offer.file.sha256 in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return FileResponse(offer.path, media_type="application/octet-stream", headers=headers)
