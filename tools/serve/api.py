"""The JSON API: the service's functions at addresses, with a documented schema."""

from typing import Annotated

from fastapi import File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from tools.serve.gate import PROGRESS, UPLOAD
from tools.serve.limits import TOP, Refused
from tools.serve.refusals import log_refusal
from tools.serve.schema import Answer, Health, Problem, RunInfo
from tools.serve.service import Service
from tools.serve.uploads import Uploads

REFUSALS = {
    404: "no such run or picture",
    413: "more bytes or pixels than are taken",
    415: "not a picture",
    422: "a damaged picture, or a field that is wrong",
    503: "busy, or Caffe's process died; send the request once more",
}


def make_api(service: Service, uploads: Uploads) -> FastAPIOffline:
    """Return the FastAPI app of a Service, its page of documentation at /docs.

    uploads: what the page uploads.
    """
    api = FastAPIOffline(
        title="Search by deep binary codes",
        description="Pictures in, the nearest pictures of a data set out.",
        version="1",
        docs_url="/docs",
        redoc_url=None,
        responses={s: {"model": Problem, "description": text} for s, text in REFUSALS.items()},
    )

    @api.exception_handler(Refused)
    def say_why(request: Request, refused: Refused) -> JSONResponse:
        log_refusal(request.scope, refused)
        headers = {"Retry-After": "1"} if refused.status == 503 else None
        return JSONResponse({"error": str(refused)}, refused.status, headers)

    @api.exception_handler(RequestValidationError)
    def say_which(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = first["loc"][-1]
        return say_why(request, Refused(422, f"{field}: {first['msg']}."))

    @api.exception_handler(HTTPException)
    def say_what(request: Request, error: HTTPException) -> JSONResponse:
        return say_why(request, Refused(error.status_code, str(error.detail)))

    @api.exception_handler(Exception)
    def say_sorry(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "The server made a mistake; see its log."}, 500)

    @api.get("/api/runs")
    def runs() -> list[RunInfo]:
        """List the runs that can be searched, by code length."""
        return [run.info for run in service.runs.values()]

    @api.get("/api/health")
    def health() -> Health:
        """Say how often Caffe was started, and what waits for it."""
        return service.health()

    @api.post("/api/search")
    async def search(
        picture: Annotated[UploadFile, File(description="JPEG, PNG, WebP or BMP")],
        run: Annotated[str | None, Form(description="a run's name; the first by default")] = None,
        top: Annotated[int, Form(ge=1, le=TOP, description="how many neighbours")] = 10,
        category: Annotated[str | None, Form(description="only neighbours of this label")] = None,
        fine: Annotated[bool, Form(description="rank near codes again by features")] = False,
    ) -> Answer:
        """Find the database's pictures that are nearest to a picture."""
        return await service.search(
            await picture.read(), run_name=run, top=top, category=category or None, fine=fine
        )

    @api.get("/api/runs/{run}/pictures/{row}", response_class=Response)
    def picture(run: str, row: int) -> Response:
        """Show a picture of a run's database, as PNG."""
        png = service.picture(run, row)
        return Response(png, media_type="image/png", headers={"Cache-Control": "max-age=3600"})

    @api.get("/api/runs/{run}/examples/{number}", include_in_schema=False)  # the page's own
    def example(run: str, number: int) -> Response:
        png = service.example(run, number)
        return Response(png, media_type="image/png", headers={"Cache-Control": "max-age=3600"})

    @api.post(UPLOAD, include_in_schema=False)  # in the place of Gradio's, which keeps all
    async def upload(request: Request, files: Annotated[UploadFile, File()]) -> list[str]:
        peer = request.client.host if request.client else "-"
        return [await uploads.add(peer, files.filename or "", await files.read())]

    @api.get(PROGRESS, include_in_schema=False)
    def progress() -> Response:  # Gradio's would be a stream for as long as a client likes
        return Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")

    return api
