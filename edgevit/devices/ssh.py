"""A device that is reached with the system's own `ssh`, so with its configuration, keys, agent and known hosts."""

from __future__ import annotations

import shlex
import shutil

import msgspec

from edgevit.devices.connection import one_line
from edgevit.errors import EdgevitError, InputError, UnavailableError

_FAILED = 255
"""ssh's own status; every other one is the program's."""
_PATIENCE = ("ConnectTimeout=20", "ServerAliveInterval=15", "ServerAliveCountMax=4")
"""Without these a device that was unplugged is waited for for hours."""
_REASONS = (
    ("could not resolve hostname", "its name is not known", "check the name, or give it a Host in ~/.ssh/config"),
    (
        "remote host identification has changed",
        "another host key than the known one",
        "if the device was set up again, ssh-keygen -R its name; otherwise find out who answers there",
    ),
    ("host key verification failed", "a host key that is not known here", "connect once with ssh and compare the key"),
    ("too many authentication failures", "every key refused", "name the right one with IdentityFile in ~/.ssh/config"),
    ("permission denied", "the login refused", "check the user, and add your key there with ssh-copy-id"),
    ("connection refused", "nothing that listens on that port", "check the port, and that sshd runs there"),
    ("timed out", "no answer", "check that it is switched on and in this network"),
    ("no route to host", "no way there", "check that it is switched on and in this network"),
    ("network is unreachable", "no way there", "check the network here"),
    ("bad configuration option", "an option that ssh does not know", "correct --ssh-option or ~/.ssh/config"),
)
"""What ssh writes, in lower case; what was found; what to do. The first that fits counts."""


class SshHost(msgspec.Struct, frozen=True, kw_only=True):
    """`destination` as ssh takes it: HOST, USER@HOST or ssh://USER@HOST:PORT; `options` as its -o takes them."""

    destination: str
    options: tuple[str, ...] = ()
    python: str = ""

    @property
    def name(self) -> str:
        return self.destination

    @property
    def keeps(self) -> bool:
        return True

    def command(self, script: str) -> list[str]:
        """Raises InputError for a destination that ssh would read as an option, UnavailableError without ssh."""
        if not self.destination or self.destination.startswith("-") or not self.destination.isprintable():
            raise InputError(f"expected USER@HOST, found {self.destination!r}; correct --ssh")
        for option in self.options:
            if "=" not in option:
                raise InputError(f"expected NAME=VALUE, as ssh's -o takes it, found {option!r}; correct --ssh-option")
        ssh = shutil.which("ssh")
        if ssh is None:
            raise UnavailableError(
                "expected the command ssh here, found none; install it (Debian, Ubuntu: sudo apt-get install "
                "openssh-client)"
            )
        options = [part for option in (*self.options, *_PATIENCE) for part in ("-o", option)]
        return [ssh, "-T", *options, "--", self.destination, f"exec sh -c {shlex.quote(script)}"]

    def explained(self, status: int, errors: str) -> EdgevitError:
        lower = errors.lower()
        if status == _FAILED:
            for text, found, fix in _REASONS:
                if text in lower:
                    return UnavailableError(f"expected to reach {self.name} with ssh, found {found}; {fix}")
            said = one_line(errors) or "ssh says nothing"
            return UnavailableError(f"the connection to {self.name} was lost: {said}; try: ssh {self.name}")
        return UnavailableError(
            f"expected {self.name} to start Python, found exit status {status}: {one_line(errors) or 'and no word'}; "
            f"try: ssh {self.name} python3 -V"
        )
