"""Keys of servers: from an environment variable, from the OS keyring, or typed for this run, each bound to one origin.

Owns looking them up and keeping them. Writes one nowhere but into the OS keyring; never sends, prints or logs one.
"""

from __future__ import annotations

import importlib.util
import os

from backends.addresses import origin
from backends.base import BackendError
from backends.servers import belongs_to

SERVICE = "intermt-studio"  # under this name, with the origin as the user, a keyring's own program shows them
_typed: dict[str, str] = {}  # origin -> key, forgotten when the studio ends


def check_variable(key_env: str | None, base_url: str) -> None:
    """Raise BackendError when a well-known variable's key would go to another origin than its own."""
    home = belongs_to(key_env) if key_env else None
    if home and home != origin(base_url):
        raise BackendError(
            f"The key in {key_env} is for {home} and stays there; this model is at {origin(base_url)}. "
            "Put the key of that server into a variable of another name."
        )


def find(base_url: str, key_env: str | None, in_keyring: bool) -> str | None:
    """The key for a server: typed in this run, else in the variable, else in the OS keyring where it was put there.

    Raises:
        BackendError: a key with impossible characters, or a keyring that is locked or missing.
    """
    key, where = _typed.get(origin(base_url), ""), "typed"
    if not key and key_env:
        key, where = os.environ.get(key_env, "").strip(), f"in {key_env}"
    if not key and in_keyring:
        key, where = _from_keyring(origin(base_url)), "in the OS keyring"
    return _checked(key, where) or None


def use(base_url: str, key: str) -> None:
    """Use a typed key for its origin until the studio ends. Raises BackendError when it cannot be one."""
    _typed[origin(base_url)] = _checked(key.strip(), "typed")


def keep(base_url: str, key: str) -> None:
    """Put a typed key into the OS keyring, for its origin only.

    Raises:
        BackendError: no keyring here, or it refuses; the key then still works until the studio ends.
    """
    use(base_url, key)
    if why := trouble():
        raise BackendError(f"{why} {_instead(origin(base_url))}")
    import keyring
    from keyring.errors import KeyringError

    at = origin(base_url)
    try:
        keyring.set_password(SERVICE, at, key.strip())
    except KeyringError as error:
        raise BackendError(f"The OS keyring did not take the key ({_said(error)}). {_instead(at)}") from error


def forget(base_url: str) -> None:
    """Take the key of an origin out of this run and out of the OS keyring, where they have one."""
    _typed.pop(origin(base_url), None)
    if trouble():
        return
    import keyring
    from keyring.errors import KeyringError, PasswordDeleteError

    try:
        keyring.delete_password(SERVICE, origin(base_url))
    except PasswordDeleteError:  # there was none
        return
    except KeyringError as error:
        raise BackendError(
            f"The OS keyring did not give up the key of {origin(base_url)} ({_said(error)}). Take it out there."
        ) from error


def trouble() -> str:
    """Why no key can be kept in the OS keyring here, as one line; '' when one can."""
    if importlib.util.find_spec("keyring") is None:
        return "The package keyring is not installed: pip install 'intermt-studio[keyring]'."
    import keyring
    from keyring.backends import fail, null

    if isinstance(keyring.get_keyring(), (fail.Keyring, null.Keyring)):
        return "This machine has no OS keyring that can be used: a desktop's own, or the package keyrings.alt."
    return ""


def _from_keyring(at: str) -> str:
    if why := trouble():
        raise BackendError(f"The key of {at} should be in the OS keyring. {why} Or name a variable with key_env.")
    import keyring
    from keyring.errors import KeyringError

    try:
        return (keyring.get_password(SERVICE, at) or "").strip()
    except KeyringError as error:
        raise BackendError(f"The OS keyring does not open ({_said(error)}). Unlock it and retry.") from error


def _checked(key: str, where: str) -> str:
    if not (key.isascii() and key.isprintable()):
        raise BackendError(f"The key {where} has characters that no key has. Set it again, just the key.")
    return key


def _instead(at: str) -> str:
    return f"The key works for {at} until the studio ends. To keep it, export it as a variable and name that here."


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
