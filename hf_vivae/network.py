"""A check of whether a host answers, within seconds instead of the libraries' minutes of retries."""

from __future__ import annotations

import re
import socket
import threading
from urllib.parse import urlsplit, urlunsplit

from .validation import UserError

REACH_SECONDS = 4.0  # including DNS, which has no time limit of its own


# both, as io.UnsupportedOperation is: a UserError is printed as one sentence, an OSError is what networks raise
class NetworkError(OSError, UserError):
    """A host that does not answer or a file that could not be downloaded.

    Attributes:
        url: the address without passwords and keys.
        found: answer or error of the address.
        remedy: what to do; the caller sets the alternatives that its command has.
    """

    def __init__(self, url: str, found: str) -> None:
        super().__init__(bare_address(url), found)
        self.url, self.found = self.args
        self.remedy = "check the address and the network"

    def __str__(self) -> str:
        return f"expected a download from {self.url}, found {self.found}; {self.remedy}."


def bare_address(url: str) -> str:
    """Return an address without credentials: without name and password before the host and keys after the path."""
    plain = re.split("[?#]", url)[0]
    try:
        parts = urlsplit(plain)
        host, _ = parts.netloc, parts.port
    except ValueError:  # no address; its port may be a password
        return plain.rpartition("@")[2].rpartition("//")[2].partition(":")[0]
    if not host:  # without a scheme, a user name is parsed as one
        return plain.rpartition("@")[2]
    return urlunsplit((parts.scheme, host.rpartition("@")[2], parts.path.partition(";")[0], "", ""))


def check_reachable(url: str) -> None:
    """Fail early where a host does not answer: name resolution may take longer than any timeout of `requests`.

    Raises:
        NetworkError: after `REACH_SECONDS` at most.
    """
    from requests.utils import get_environ_proxies, select_proxy

    target = urlsplit(select_proxy(url, get_environ_proxies(url)) or url)
    address = target.hostname, target.port or (443 if target.scheme == "https" else 80)
    failure: list[str] = ["no answer"]

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=REACH_SECONDS).close()
            failure.clear()
        except (OSError, UnicodeError) as error:  # UnicodeError: no possible host name
            failure[:] = [getattr(error, "strerror", None) or str(error)]

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    if failure:
        raise NetworkError(url, f"no connection to {address[0]} ({failure[0]})")
