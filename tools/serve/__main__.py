"""Search a run in a browser, or by its JSON API: `make serve`."""

import logging
import os
import resource
import signal
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tools.net import engines
from tools.run import device
from tools.run.failure import Failure, carry_out
from tools.run.job import Job, read_job, require_codes
from tools.run.variables import whole
from tools.serve.limits import CONNECTIONS, PICTURE_BYTES
from tools.serve.origin import is_loopback
from tools.serve.refusals import RATION
from tools.serve.uploads import Uploads, open_folder

if TYPE_CHECKING:  # these take their time: only once signals are handled and the address is free
    import uvicorn

    from tools.serve.service import Service

LOG = logging.getLogger("serve")
DRAIN_SECONDS = 30  # for requests at work when the server is stopped


def main() -> None:
    """Serve the job's run until a signal says to stop."""
    job, values = read_job(__doc__, "HOST", "PORT", "RADIUS", "ENGINE")
    require_codes(job)
    radius = whole("RADIUS", str(values.radius), 0, job.bits)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < 2 * CONNECTIONS:  # a file each
        most = hard if hard != resource.RLIM_INFINITY else 2 * CONNECTIONS
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(2 * CONNECTIONS, most), hard))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    LOG.setLevel(logging.INFO)
    for name in (signal.SIGTERM, signal.SIGINT):  # while starting
        signal.signal(name, lambda *_: sys.exit(0))
    with ExitStack() as files:
        sock = files.enter_context(listen(values.host, values.port))
        uploads = Uploads(files.enter_context(open_folder()))
        gpus, device_sentence = engines.choose(values.engine, job.device)
        gpu = gpus[0] if gpus else None
        service = open_service(job, radius, values.engine, gpu, files)
        server = make_server(service, values.host, sock, uploads)
        address = address_of(values.host, sock.getsockname()[1])
        print(f"serving {', '.join(service.runs)} on {device_sentence}", flush=True)
        print(f"  the page is {address}, the JSON API {address}/docs", flush=True)
        if not is_loopback(sock.getsockname()[0]):
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


def address_of(host: str, port: int) -> str:
    """Return the page's address, an IPv6 address in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def open_service(
    job: Job, radius: int, engine: str, gpu: int | None, files: ExitStack
) -> "Service":
    """Return the service of the job's run, with the net's process started.

    radius: of fine search's candidates, in bits. engine, gpu: what runs the net. files: ends what
    is open. Raise Failure where the run cannot be searched.
    """
    from tools.serve.decoder import Decoder
    from tools.serve.encoder import Encoder
    from tools.serve.runs import open_runs
    from tools.serve.service import Service

    runs = open_runs(job.run, job.data_root, files)
    run, log = runs[job.run.name], job.run / "serve.log"
    warm = (run.folder, run.index.fingerprint)
    encoder = Encoder(
        engine=engine,
        gpu=gpu,
        threads=device.threads(),
        log=log,
        data_root=job.data_root,
        warm=warm,
    )
    files.callback(encoder.close)
    decoders = (Decoder(log), Decoder(log))
    for decoder in decoders:
        files.callback(decoder.close)
    return Service(runs, encoder, decoders, radius)


def make_server(
    service: "Service", host: str, sock: socket.socket, uploads: Uploads
) -> "uvicorn.Server":
    """Return a server of page and API behind their gate.

    sock: listens on host. uploads: the pictures that the page uploads.
    """
    os.environ.update(  # before Gradio's import
        GRADIO_TEMP_DIR=str(uploads.folder), GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1"
    )
    import gradio as gr
    import uvicorn

    from tools.serve.api import make_api
    from tools.serve.connections import bounded
    from tools.serve.gate import Gate
    from tools.serve.page import SCRIPT, STYLE, make_page

    page = make_page(service)
    app = gr.mount_gradio_app(
        make_api(service, uploads),
        page,
        "/",
        server_name=host,
        server_port=sock.getsockname()[1],
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        max_file_size=PICTURE_BYTES,
        css_paths=[STYLE],
        head=f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>",
    )
    events = {
        number: [isinstance(value, gr.Image) for value in each.inputs]
        for number, each in page.fns.items()
        if each.fn is not None
    }
    own_name = host if is_loopback(sock.getsockname()[0]) else None
    config = uvicorn.Config(
        Gate(app, uploads, events, own_name),
        http=bounded(),
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_keep_alive=30,
        server_header=False,
    )
    logging.getLogger("uvicorn.error").addFilter(RATION)
    return uvicorn.Server(config)


if __name__ == "__main__":
    carry_out(main)
