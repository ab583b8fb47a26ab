"""The server of the web page: address, accepted requests and style."""

import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..validation import UserError

if TYPE_CHECKING:
    from gradio import Blocks


ADDRESS = "127.0.0.1"
HOSTS = (ADDRESS, "localhost", "[::1]")
LARGEST = "100mb"
CSS = """
.bars { display: grid; gap: .45rem .7rem; align-items: center; }
.bars { grid-template-columns: minmax(6rem, max-content) 1fr 3.2rem; }
.bars meter { width: 100%; height: 1.4rem; }
.bars .score { text-align: right; font-variant-numeric: tabular-nums; }
.bars .best { font-weight: 700; }
.bars + p { margin-top: .8rem; }
.matplotlib img { max-width: min(100%, 820px); margin: auto; }
.message { border-left: 4px solid #D55E00; padding: .5rem .8rem; margin: .8rem 0; }
footer { display: none !important; }
"""


class SameOriginMiddleware:
    """Middleware that refuses requests of a browser for a page of another origin, such as an upload.

    Browsers send the origin with every request that crosses origins, and with every POST; other programs send none.

    Args:
        app: takes all other requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 403."""
        app = self.app
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            try:
                own = origin is None or urlsplit(origin).netloc == headers.get("host")
            except ValueError:  # not an address, such as http://[
                own = False
            if not own:
                app = PlainTextResponse("Requests of other pages are refused", status_code=403)
        await app(scope, receive, send)


def check_port(port: int) -> None:
    """Refuse a port that cannot be used, before a checkpoint is loaded.

    Raises:
        UserError: for a number outside of 1 to 65535, and a port that is in use or not permitted.
    """
    if not 0 < port < 2**16:
        raise UserError(f"expected --port of 1 to {2**16 - 1}, found {port}; 7860 is usual.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            raise UserError(
                f"expected a free --port, found {port} ({error.strerror}); give another, or leave it out for the next "
                "free one."
            ) from error


def launch(page: "Blocks", port: int | None = None, quiet: bool = False) -> Any:
    """Serve the page on this machine alone, until Ctrl-C.

    Requests for other host names are refused, since a web page could let its own name point to this machine.

    Args:
        page: of `build_demo`.
        port: 7860 or the next free one by default.
        quiet: print nothing, and return while it is served.
    """
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS), Middleware(SameOriginMiddleware)]
    return page.launch(
        server_name=ADDRESS, server_port=port, share=False, quiet=quiet, prevent_thread_lock=quiet,
        app_kwargs={"middleware": middleware}, **_launch_options(),
    )  # fmt: skip


def serve_space(page: "Blocks") -> None:
    """Serve the page in a Space of the Hub, at the address of its environment variables."""
    page.launch(**_launch_options())


def _launch_options() -> dict[str, Any]:
    import gradio

    system = ["system-ui", "sans-serif"]  # no fonts of other hosts
    theme = gradio.themes.Default(font=system, font_mono=["ui-monospace", "monospace"])
    return {"theme": theme, "css": CSS, "max_file_size": LARGEST, "ssr_mode": False, "footer_links": []}
