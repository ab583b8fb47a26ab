"""The server of the web page: its address, the requests that it takes, and the style that it adds."""

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
    """Middleware that refuses what a browser sends for a page of another origin, such as an upload.

    Browsers give the origin of every request that crosses origins, and of every POST; other programs give none.

    Args:
        app: that takes all other requests.
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
            except ValueError:  # no address at all, such as http://[
                own = False
            if not own:
                app = PlainTextResponse("Requests of other pages are refused", status_code=403)
        await app(scope, receive, send)


def check_port(port: int) -> None:
    """Refuse a port that cannot be served at, before a checkpoint is loaded.

    Raises:
        UserError: for a number that no port has, and a port that is in use or not for this user.
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

    Requests by a name that is not this machine's own are refused: a page of the web could have that name point here.

    Args:
        page: of `build_demo`.
        port: 7860 or the next free one by default.
        quiet: print nothing, and return while it is served.
    """
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS), Middleware(SameOriginMiddleware)]
    return page.launch(
        server_name=ADDRESS, server_port=port, share=False, quiet=quiet, prevent_thread_lock=quiet,
        app_kwargs={"middleware": middleware}, **_look(),
    )  # fmt: skip


def serve_space(page: "Blocks") -> None:
    """Serve the page as a Space of the Hub does, whose variables say where."""
    page.launch(**_look())


def _look() -> dict[str, Any]:
    import gradio

    system = ["system-ui", "sans-serif"]  # no fonts from elsewhere
    theme = gradio.themes.Default(font=system, font_mono=["ui-monospace", "monospace"])
    return {"theme": theme, "css": CSS, "max_file_size": LARGEST, "ssr_mode": False, "footer_links": []}
