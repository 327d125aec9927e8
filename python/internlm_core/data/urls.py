"""Web addresses as keys: one spelling for each, and the domain that somebody registered."""

from __future__ import annotations

from internlm_core import _core

__all__ = ["normalise_url", "registered_domain"]


def normalise_url(url: str) -> str | None:
    r"""One spelling of a web address, or `None` for what is none (a path, another scheme).

    As browsers do (WHATWG URL Standard): blanks at the ends, tabs and line ends go, scheme and host
    become lower case, the host ASCII (IDN as Punycode, full-width dots as dots), the default port
    goes, `\` is `/`, dots in the path are resolved. Beyond that user info, the dot at the end of the
    host, and the fragment go (`#!…` stays, which names a page of its own).
    """
    return _core.normalise_url(url)


def registered_domain(url: str, private: bool = True) -> str | None:
    """The domain that somebody registered (`example.co.uk`), in ASCII, of an address or a host.

    `None` for IP addresses, and for hosts that are a public suffix or have one label only. Source:
    the Public Suffix List, in the version that the Rust crate `psl` carries.

    Args:
        url: Address or bare host name.
        private: Whether names under which a service rents out names (`blogspot.com`) are suffixes
            too, so that its customers are told apart.
    """
    return _core.registered_domain(url, private)
