"""Which links in an answer are followed: to the provider's hosts and the user's own choice, never inside a network."""

import ipaddress
import socket
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import anyio

from batchgen.catalog import Provider, loopback, origin
from batchgen.errors import Blocked, Unsent

REFUSED = "link_refused"


def check(url: str, provider: Provider) -> None:
    """Blocked where an image is not to be fetched from there. What is bought stays with the provider meanwhile."""
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise _refused("an answer links to what is no address") from None
    own = origin(url) == origin(provider.base_url) or (host == provider.host and not loopback(host))
    known = own or host in provider.links
    plain = parts.scheme == "http" and known and (own or loopback(host))
    if not (parts.scheme == "https" or plain) or not host or parts.username is not None:
        raise _refused(f"an answer links to {parts.scheme}://{host}: images are fetched over https only")
    if known:
        return
    if not _is_public(host):
        raise _refused(f"an answer links to {host}, an address inside of a network")
    if not any(_below(host, each) for each in provider.links):
        says = f"an answer links to {host}, which is not known as a host of {provider.identity}"
        raise _refused(f"{says}: if you trust it, run again with --trust-host {host}")


def _refused(says: str) -> Blocked:
    return Blocked(f"{says}. Nothing is bought again: what was bought waits to be fetched", code=REFUSED)


def _below(host: str, pattern: str) -> bool:
    return pattern == "*" or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def _is_public(host: str) -> bool:
    """Whether it is a name, or an address that anybody can reach."""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return not loopback(host) and "." in host


async def pinned(url: str) -> tuple[str, str]:
    """The URL with its host's address in place of its name, and the host; what a name leads to, it cannot change then.

    Blocked where the address lies inside of a network. A name stays where a proxy is to look it up.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if loopback(host) or _is_address(host) or _proxied(parts.scheme, host):
        return url, parts.netloc
    try:
        found = await anyio.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unsent(f"no address is known of {host}: {error}", code="unreachable") from None
    address = ipaddress.ip_address(found[0][4][0])
    if not all(ipaddress.ip_address(each[4][0]).is_global for each in found):
        raise _refused(f"an answer links to {host}, which leads to {address}, inside of a network")
    literal = f"[{address}]" if address.version == 6 else str(address)
    netloc = f"{literal}:{parts.port}" if parts.port else literal
    return urlunsplit(parts._replace(netloc=netloc)), parts.netloc


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _proxied(scheme: str, host: str) -> bool:
    return scheme in getproxies() and not proxy_bypass(host)
