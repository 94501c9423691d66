"""imgindex serve: a web page and an HTTP API for the index, on this machine."""

from __future__ import annotations

import contextlib
import html
import logging
import os
import secrets
import shlex
import socket as sockets
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Iterator
from typing import Annotated, NoReturn
from urllib.parse import quote

import typer

from imgindex.cli import options
from imgindex.cli.output import remark, suggest, write
from imgindex.errors import UsageError

# Seconds that the threads which use the index have to end.
LAST_SECONDS = 0.3


def command(
    port: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=65535, help="Listen at this port.", show_default="8737, or a free one"),
    ] = None,
    socket: Annotated[
        str | None, typer.Option(metavar="SOCKET", help="Listen at a Unix socket, which only you can connect to.")
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Listen at this address; another one needs --allow-host.")
    ] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Answer requests for this host too; may be repeated."),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page in a browser.")] = False,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Refuse to change tags, names and clusterings.")
    ] = False,
    index: options.Index = None,
    quiet: options.Quiet = False,
) -> int:
    """Show the index in a browser, and answer its HTTP API.

    Prints the address of the page, with a new token for each run, and serves it until Ctrl-C. No file is deleted, and
    no file's own bytes are sent.

    Examples:
      imgindex serve
      imgindex serve --port 9000 --no-browser
    """
    _check(port, socket, host, allow_host or [])
    where = options.find_index(index)
    from imgindex.server.app import build_app
    from imgindex.server.listen import PORT, open_port, open_unix_socket, serve

    # A request that is wrong is answered, not reported here.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    token = secrets.token_urlsafe(32)
    app, close = build_app(where, token=token, allowed_hosts=allow_host or (), read_only=read_only)
    try:
        listening = open_unix_socket(socket) if socket is not None else open_port(host, port)
        with contextlib.ExitStack() as stack:
            stack.callback(listening.close)
            if socket is not None:
                stack.callback(_unlink, socket)
            url = _address(listening, host, socket, allow_host or [], token)
            write(f"{url}\n".encode())
            if socket is not None:
                tunnel = f"ssh -L {PORT}:{shlex.quote(os.path.abspath(socket))} THIS_MACHINE"
                remark(f"from another machine: {tunnel}, then http://127.0.0.1:{PORT}/#token=… there", quiet=quiet)
            _remark_empty(where, index, quiet=quiet)
            wants_browser = not no_browser and socket is None and sys.stdout.isatty()
            stack.enter_context(_browser(url, wanted=wants_browser))
            serve(app, listening)
    finally:
        close()
    _end()


def _check(port: int | None, socket: str | None, host: str, allowed: list[str]) -> None:
    """Raise UsageError for options that contradict each other, or that would let others ask without a word."""
    if socket == "":
        raise UsageError("--socket '' names no file", hint="is a variable empty?")
    if socket is not None and (port is not None or host != "127.0.0.1"):
        raise UsageError("--socket excludes --port and --host", hint="give one of them")
    if host not in ("127.0.0.1", "::1", "localhost") and not allowed:
        raise UsageError(
            f"--host {host} lets other machines connect",
            hint="give --allow-host NAME too, the name or address that they ask for",
        )


def _address(listening: sockets.socket, host: str, socket: str | None, allowed: list[str], token: str) -> str:
    """Return the address of the page, with the token where no server sees it."""
    if socket is not None:
        return f"http+unix://{quote(os.path.abspath(socket), safe='')}/#token={token}"
    name = host if host in ("127.0.0.1", "localhost") or not allowed else allowed[0]
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{listening.getsockname()[1]}/#token={token}"


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _remark_empty(where: str, index: str | None, *, quiet: bool) -> None:
    from imgindex.index import ImageIndex

    with ImageIndex.open(where) as opened:
        if not len(opened):
            suggest("the index is empty; add images", "add FOLDER", index=index, quiet=quiet)


@contextlib.contextmanager
def _browser(url: str, *, wanted: bool) -> Iterator[None]:
    """Open the page in a browser while the block runs.

    It is led there by a file that only this user can read, because all users can see the arguments of a program.
    """
    if not wanted:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="imgindex-", ignore_cleanup_errors=True) as folder:
        path = os.path.join(folder, "open.html")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write('<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">')
            file.write(f'<meta http-equiv="refresh" content="0; url={html.escape(url)}"><title>imgindex</title>')
        threading.Thread(target=webbrowser.open, args=(f"file://{quote(path)}",), daemon=True).start()
        yield


def _end() -> NoReturn:
    """End the process, after a moment: not even a long job is waited for.

    What it has not committed is not lost, as after a crash: the next `add` continues. The interpreter's own end would
    take more than a second after FAISS and OpenVINO were loaded.
    """
    others = [one for one in threading.enumerate() if one.name.startswith("imgindex-")]
    deadline = time.monotonic() + LAST_SECONDS
    for thread in others:
        thread.join(max(0.0, deadline - time.monotonic()))
    sys.stdout.flush()
    os._exit(0)
