"""The reverse proxies of deploy/, as processes before an API of our own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.app.live import answers, free_port, until

from .deployment import tool
from .documents import ROOT, text

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
    access_log {folder}/nginx-access.log;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    include {folder}/cellgraft.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    port: int
    log: Path
    folder: Path


@contextmanager
def caddy(folder: Path, api_port: int, *, tls: bool = False) -> Iterator[Proxy]:
    """Caddy with the Caddyfile of docker-compose.yml; `tls` on the name localhost."""
    port = free_port()
    given = {
        "SITE_ADDRESS": f"localhost:{port}" if tls else f"http://127.0.0.1:{port}",
        "API_HOST": "127.0.0.1",
        "API_PORT": str(api_port),
        "CADDY_HTTP_PORT": str(free_port()),
        "CADDY_HTTPS_PORT": str(port if tls else free_port()),
        "CADDY_ADMIN": f"127.0.0.1:{free_port()}",
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    command = [tool("caddy"), "run", "--adapter", "caddyfile", "--config", "deploy/Caddyfile"]
    with _running(command, folder / "caddy.log", given) as process:
        root = folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        until(lambda: process.poll() is not None or (root.exists() if tls else answers(port)), 30)
        yield Proxy(port, folder / "caddy.log", folder)


@contextmanager
def nginx(folder: Path, api_port: int) -> Iterator[Proxy]:
    """nginx with the example's `server`, without its certificate."""
    port = free_port()
    ours = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port};",
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{api_port};",
        "ssl_certificate /etc/ssl/cellgraft/fullchain.pem;": "",
        "ssl_certificate_key /etc/ssl/cellgraft/key.pem;": "",
    }
    example = text("deploy/nginx.conf")
    for said, changed in ours.items():
        assert said in example
        example = example.replace(said, changed)
    (folder / "cellgraft.conf").write_text(example)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
    program = find_nginx()
    assert program is not None
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with _running(command, folder / "out.log", {}) as process:
        until(lambda: process.poll() is not None or answers(port), 30)
        yield Proxy(port, folder / "nginx-access.log", folder)


def find_nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def _running(
    command: list[str], log: Path, given: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **given}, stdout=output, stderr=output
        )
    try:
        yield process
        assert process.poll() is None, log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
