"""Which links in an answer are followed: to the provider's hosts and the user's own choice, never inside a network."""

import ipaddress
import socket
from urllib.parse import urljoin, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import anyio

from batchgen.catalog import Provider, loopback, origin
from batchgen.errors import Blocked, Unsent

REFUSED = "link_refused"
PORTS = {"https": 443, "http": 80}


def check(url: str, provider: Provider) -> None:
    """Blocked where an image is not to be fetched from there. What is bought stays with the provider meanwhile."""
    try:
        parts = urlsplit(url)
        host, _ = _ascii((parts.hostname or "").lower()), parts.port
    except ValueError:
        raise _refused("an answer links to what is no address") from None
    if parts.username is not None or parts.scheme not in ("http", "https") or not host:
        raise _refused(f"an answer links to {parts.scheme}://{host}: images are fetched over https only")
    if origin(url) == origin(provider.base_url) or host in provider.trusted:
        return
    beside = loopback(host) and loopback(provider.host) and host in provider.links
    if parts.scheme != "https" and not beside:
        raise _refused(f"an answer links to http://{host}: images are fetched over https only{_trust(host)}")
    if not (beside or _is_public(host)):
        raise _refused(f"an answer links to {host}, an address inside of a network{_trust(host)}")
    if not (beside or host == provider.host or any(_below(host, each) for each in provider.links)):
        raise _refused(f"an answer links to {host}, which is not known as a host of {provider.identity}{_trust(host)}")


def joined(base: str, link: str) -> str:
    """A link as an address, seen from where it stood; what is none stays as it is, for `check` to refuse."""
    try:
        return urljoin(base, link)
    except ValueError:
        return link


def _trust(host: str) -> str:
    return f". If you trust it, run again with --trust-host {host}"


def _refused(says: str) -> Blocked:
    says = says.encode("utf-8", "replace").decode()  # a link may hold what is no character
    return Blocked(f"{says}. Nothing is bought again: what was bought waits to be fetched", code=REFUSED)


def _below(host: str, pattern: str) -> bool:
    return pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def _is_public(host: str) -> bool:
    """Whether it is a name, or an address that anybody can reach."""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return not loopback(host) and "." in host


async def pinned(url: str, proxied: bool) -> tuple[str, str]:
    """The URL with its host's address in place of its name, and the host; what a name leads to, it cannot change then.

    Blocked where the address lies inside of a network. A name stays where the environment's proxy is to look it up,
    if one is used at all.
    """
    parts = urlsplit(url)
    host = _ascii(parts.hostname or "")
    if loopback(host) or _is_address(host) or (proxied and _has_proxy(parts.scheme, host)):
        return url, parts.netloc
    try:
        found = await anyio.getaddrinfo(host, parts.port or PORTS[parts.scheme], type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unsent(f"no address is known of {host}: {error}", code="unreachable") from None
    addresses = [ipaddress.ip_address(each[4][0]) for each in found]
    if inside := [each for each in addresses if not each.is_global]:
        raise _refused(f"an answer links to {host}, which leads to {inside[0]}, inside of a network{_trust(host)}")
    literal = f"[{addresses[0]}]" if addresses[0].version == 6 else str(addresses[0])
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=literal + port)), host + port


def _ascii(host: str) -> str:
    """A name as it stands in certificates and headers."""
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise _refused("an answer links to a host that nobody can look up") from None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _has_proxy(scheme: str, host: str) -> bool:
    return bool(getproxies().keys() & {scheme, "all"}) and not proxy_bypass(host)
