"""Whose request it is: a name of this machine, and a page of this server's own."""

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

# by these a client could say what the server's name is, and Gradio would repeat it
NAMING = (
    *(b"forwarded", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix"),
    *(b"x-forwarded-proto", b"x-forwarded-server", b"x-gradio-server"),
)


def is_loopback(address: str) -> bool:
    """Return whether an address, IPv4 or IPv6, is reached from this machine alone."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def is_this_machine(host: str, own_name: str) -> bool:
    """Return whether a Host header is a loopback name or address, or the server's own name."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and (name in ("localhost", own_name.lower()) or is_loopback(name))


def is_foreign(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a browser sends a request for a page of another site.

    A browser's own word, Sec-Fetch-Site, holds behind a proxy too; one that says none is judged by
    the Origin. What comes without both is no browser's.
    """
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is not None:
        return site not in (b"same-origin", b"none")
    if origin is None:
        return False
    names = (headers.get(b"host"), headers.get(b"x-forwarded-host"))
    return origin.partition(b"://")[2] not in names
