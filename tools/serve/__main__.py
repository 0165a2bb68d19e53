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

from tools.run import device
from tools.run.job import parser, resolve, stop, whole
from tools.serve.limits import PICTURE_BYTES, Refused

LOG = logging.getLogger("serve")
DRAIN_SECONDS = 30  # for requests at work when the server is stopped
LOOPBACK = ("127.0.0.1", "localhost")


def main():
    p = parser(__doc__)
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", default="7860")
    p.add_argument("--radius", default="2", help="of fine search's candidates, in bits")
    args = p.parse_args()
    job, port = resolve(args), whole("PORT", args.port, 0, 65535)
    job["radius"] = whole("RADIUS", args.radius, 0, job["bits"])
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    LOG.setLevel(logging.INFO)
    for name in (signal.SIGTERM, signal.SIGINT):  # while starting
        signal.signal(name, lambda *_: sys.exit(0))
    with ExitStack() as files:
        sock = files.enter_context(listen(args.host, port))
        uploads = Path(tempfile.mkdtemp(prefix="ssdh-uploads-")).resolve()
        files.callback(shutil.rmtree, uploads, ignore_errors=True)
        os.environ.update(  # before Gradio's import
            GRADIO_TEMP_DIR=str(uploads), GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1"
        )
        serve(job, Path(args.data_root), args.host, sock, uploads, files)


def listen(host, port):
    """Return a socket that listens there; stop where that cannot be."""
    try:
        kinds = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        sock = socket.create_server(kinds[0][4][:2], family=kinds[0][0], backlog=1024)
    except OSError as error:
        stop(f"HOST={host} PORT={port}: {error.strerror.lower()}; choose others")
    # asyncio leaves such a socket's Nagle delay on (its proto is 0): 40 ms between head and body
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def serve(job, data_root, host, sock, uploads, files):
    """Serve until a signal says to stop; files: an ExitStack for what is opened."""
    import gradio as gr
    import uvicorn
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from tools.serve.api import make_api
    from tools.serve.encoder import Encoder
    from tools.serve.gate import Gate
    from tools.serve.page import STYLE, make_page
    from tools.serve.service import Service, open_runs

    runs = open_runs(job["run"], data_root, files)
    gpu, where = device.choose(job["device"])
    try:
        encoder = Encoder(gpu, device.threads(job["spec"]), job["run"] / "serve.log")
    except Refused as refused:
        stop(str(refused))
    files.callback(encoder.close)
    service = Service(runs, encoder, job["radius"])
    app = make_api(service, lambda scope, refused: gate.log(scope, refused))
    app = gr.mount_gradio_app(
        app,
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
    gate = Gate(app, uploads, lambda: server.should_exit)
    guarded = gate
    if host in LOOPBACK:  # a web site that gives its name our address gets nothing
        guarded = TrustedHostMiddleware(gate, ["127.0.0.1", "localhost"])
    config = uvicorn.Config(
        guarded,
        log_level="warning",
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_keep_alive=30,
        limit_concurrency=512,
        server_header=False,
    )
    server = uvicorn.Server(config)
    at = f"http://{host}:{sock.getsockname()[1]}"
    print(f"serving {', '.join(runs)} on {where}", flush=True)
    print(f"  the page is {at}, the JSON API {at}/docs", flush=True)
    if host not in LOOPBACK:
        LOG.warning("HOST=%s: others reach this server, which has no log-in and no TLS", host)
    for name in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it is done
        signal.signal(name, lambda *_: None)
    server.run([sock])
    print("stopped", flush=True)


if __name__ == "__main__":
    main()
