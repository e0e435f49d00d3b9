"""One page on port 80, by BusyBox's httpd: the smallest service that a host can have.

Parameters: text, what the page says; "It works: HOST" by default. It needs nothing but busybox,
so that it runs in a machine of a few megabytes as well.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

from provisioning import state
from provisioning.files import File, Folder
from provisioning.probing import http_get, wait_until

if TYPE_CHECKING:
    from provisioning.roles import RoleContext
    from provisioning.transport import Session

FOLDER = "/srv/web_page"
PID_FILE = "/run/web_page.pid"
LONGEST = 1000  # characters of the text
OK = 200
PAGE = "<!DOCTYPE html>\n<meta charset=utf-8>\n<title>{host}</title>\n<p>{text}</p>\n"
_DAEMON = ("busybox", "start-stop-daemon", "-b", "-m", "-p", PID_FILE, "-x", "/bin/busybox")
_START = (*_DAEMON, "-S", "--", "httpd", "-f", "-p", "80", "-h", FOLDER)


@dataclass(frozen=True, slots=True)
class WebPage:
    """The role."""

    packages: tuple[str, ...] = ("busybox",)

    def check(self, context: RoleContext) -> tuple[str, ...]:
        """Return what is wrong with the parameters, one sentence each; pure."""
        unknown = sorted(set(context.parameters) - {"text"})
        faults = [f"there is no parameter {name!r}; there is: text" for name in unknown]
        text = context.parameters.get("text", "")
        if not isinstance(text, str) or len(text) > LONGEST:
            faults.append(f"'text' must be text of at most {LONGEST} characters")
        return tuple(faults)

    def prepare(self, context: RoleContext) -> None:
        """Need nothing beforehand."""

    def apply(self, session: Session, context: RoleContext) -> tuple[str, ...]:
        """Write the page and start the server."""
        return state.apply(session, _desired(context))

    def probe(self, session: Session, context: RoleContext, deadline: float) -> None:
        """Return once the page is there; LabError with the last reason after `deadline` s."""

        def why_not() -> str:
            answer = http_get(session, "/")
            if answer == (OK, _page(context)):
                return ""
            return answer if isinstance(answer, str) else f"another page, HTTP status {answer[0]}"

        wait_until(session, "the page", why_not, deadline, "see whether something else has port 80")


def _page(context: RoleContext) -> str:
    text = context.parameters.get("text", f"It works: {context.host.name}")
    return PAGE.format(host=context.host.name, text=html.escape(text))


def _desired(context: RoleContext) -> state.Desired:
    return state.Desired(
        programs=("busybox",),
        folders=(Folder(FOLDER),),
        files=(File(f"{FOLDER}/index.html", _page(context).encode()),),
        services=(state.Service("web_page", _START, _START, PID_FILE, ":80"),),
    )


ROLE = WebPage()
