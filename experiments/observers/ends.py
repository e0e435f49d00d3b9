"""The ends: what each client was told and showed, as whoever sits there sees it.

A client runs in imlab's own process and its connections start in the lab host; so what is copied
is what the client gives out, beside what its user typed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from experiments.observers import Sight

if TYPE_CHECKING:
    from experiments.observers import Scene

LATER = False


def look(scene: Scene) -> list[Sight]:
    """Copy what was shown and typed at each end."""
    sights = []
    for person in scene.setting.people:
        account = person.account
        client = scene.clients[account.name]
        shown = {
            "account": account.name,
            "password": account.password,
            "at": person.at,
            "server": person.server,
            "incoming": [[message.sender, message.text] for message in client.incoming()],
            "outgoing": [[message.sender, message.text] for message in client.outgoing()],
            "contacts": sorted(
                {
                    carried.text
                    for exchange in client.exchanges
                    for carried in exchange.carried
                    if carried.kind == "contact"
                }
            ),
            "exchanges": [exchange.to_json() for exchange in client.exchanges],
        }
        content = (json.dumps(shown, ensure_ascii=False, indent=1) + "\n").encode()
        name = scene.keep(f"ends/{person.at}-{account.name}.json", content)
        what = f"what {account.name} typed and was shown at {person.at}"
        sights.append(Sight("ends", "ends", person.at, name, what, len(content)))
    return sights
