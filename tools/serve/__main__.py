"""Search a run in a browser, or by its JSON API: `make serve`."""

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tools.run import device
from tools.run.failure import Failure, carry_out
from tools.run.job import Job, read_job, require_codes
from tools.run.variables import whole
from tools.serve.limits import PICTURE_BYTES

if TYPE_CHECKING:  # these take their time: only once signals are handled and the address is free
    import uvicorn

    from tools.serve.service import Service

LOG = logging.getLogger("serve")
DRAIN_SECONDS = 30  # for requests at work when the server is stopped
LOOPBACK = ("127.0.0.1", "localhost")


def main() -> None:
    """Serve the job's run until a signal says to stop."""
    job, values = read_job(__doc__, "HOST", "PORT", "RADIUS")
    require_codes(job)
    radius = whole("RADIUS", str(values.radius), 0, job.bits)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    LOG.setLevel(logging.INFO)
    for name in (signal.SIGTERM, signal.SIGINT):  # while starting
        signal.signal(name, lambda *_: sys.exit(0))
    with ExitStack() as files:
        sock = files.enter_context(listen(values.host, values.port))
        uploads = Path(tempfile.mkdtemp(prefix="ssdh-uploads-")).resolve()
        files.callback(shutil.rmtree, uploads, ignore_errors=True)
        gpu, device_sentence = device.choose(job.device)
        service = open_service(job, radius, gpu, files)
        server = make_server(service, values.host, sock, uploads)
        address = f"http://{values.host}:{sock.getsockname()[1]}"
        print(f"serving {', '.join(service.runs)} on {device_sentence}", flush=True)
        print(f"  the page is {address}, the JSON API {address}/docs", flush=True)
        if values.host not in LOOPBACK:
            LOG.warning(
                "HOST=%s: others reach this server, which has no log-in and no TLS", values.host
            )
        for name in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it is done
            signal.signal(name, lambda *_: None)
        server.run([sock])
        print("stopped", flush=True)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; raise Failure where that cannot be."""
    try:
        kinds = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        sock = socket.create_server(kinds[0][4][:2], family=kinds[0][0], backlog=1024)
    except OSError as error:
        raise Failure(f"HOST={host} PORT={port}: {error.strerror.lower()}; choose others") from None
    # asyncio leaves such a socket's Nagle delay on (its proto is 0): 40 ms between head and body
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def open_service(job: Job, radius: int, gpu: int | None, files: ExitStack) -> "Service":
    """Return the service of the job's run, with Caffe's process started; files: ends what is open.

    radius: of fine search's candidates, in bits. Raise Failure where the run cannot be searched.
    """
    from tools.serve.encoder import Encoder
    from tools.serve.runs import open_runs
    from tools.serve.service import Service

    runs = open_runs(job.run, job.data_root, files)
    run = runs[job.run.name]
    encoder = Encoder(
        gpu=gpu,
        threads=device.threads(),
        log=job.run / "serve.log",
        data_root=job.data_root,
        warm=(run.folder, run.index.fingerprint),
    )
    files.callback(encoder.close)
    return Service(runs, encoder, radius)


def make_server(
    service: "Service", host: str, sock: socket.socket, uploads: Path
) -> "uvicorn.Server":
    """Return a server of page and API behind their gate.

    sock: listens on host. uploads: the folder for the pictures that the page uploads.
    """
    os.environ.update(  # before Gradio's import
        GRADIO_TEMP_DIR=str(uploads), GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1"
    )
    import gradio as gr
    import uvicorn
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from tools.serve.api import make_api
    from tools.serve.gate import Gate
    from tools.serve.page import STYLE, make_page

    app = gr.mount_gradio_app(
        make_api(service),
        make_page(service),
        "/",
        server_name=host,
        server_port=sock.getsockname()[1],
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        max_file_size=PICTURE_BYTES,
        css_paths=[STYLE],
    )
    guarded = Gate(app, uploads, lambda: server.should_exit)
    if host in LOOPBACK:  # a web site that gives its name our address gets nothing
        guarded = TrustedHostMiddleware(guarded, ["127.0.0.1", "localhost"])
    config = uvicorn.Config(
        guarded,
        log_level="warning",
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_keep_alive=30,
        limit_concurrency=512,
        server_header=False,
    )
    server = uvicorn.Server(config)
    return server


if __name__ == "__main__":
    carry_out(main)
