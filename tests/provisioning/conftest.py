"""Fixtures: an sshd on loopback, and the chat on the hosts of a real lab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chat_on_hosts import Browser, Chat, PaperLab
from loopback_sshd import Sshd, running_sshd

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """Run an sshd for the tests of a module."""
    with running_sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module")
def chat(paper_lab: PaperLab) -> Chat:
    """Provide the chat on guest and peer; the sessions are the lab's, which closes them."""
    return Chat(paper_lab)


@pytest.fixture
def browser(chat: Chat) -> Browser:
    """Provide a browser on the guest that CLIENT has signed in with."""
    made = Browser(chat.sessions["guest"])
    made.sign_in(chat.account("CLIENT"))
    return made
