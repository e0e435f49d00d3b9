"""Fixtures: real labs, made for the tests and gone with them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from real_labs import PROJECT, LabMaker, OpenLab, small_plan

from lab import lifecycle, providers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# How fast an example is says how busy the machine is, and nothing about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Give every provider a marker of its name: `./inv test --only NAME`."""
    for name in providers.names():
        config.addinivalue_line("markers", f"{name}: of the provider {name} alone")


@pytest.fixture
def labs(tmp_path: Path) -> Iterator[LabMaker]:
    """Give a maker of labs for one test."""
    maker = LabMaker(tmp_path / "state")
    yield maker
    maker.close()


@pytest.fixture(scope="session")
def small_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLab]:
    """Give a lab of three bare hosts, wired as in the paper, shared by a test session."""
    from provisioning.sessions import Sessions

    maker = LabMaker(tmp_path_factory.mktemp("small"))
    try:
        lab = maker.up(small_plan())
        with Sessions(lab) as sessions:
            yield OpenLab(lab, sessions)
    finally:
        maker.close()


@pytest.fixture(scope="session")
def paper_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLab]:
    """Give the paper's lab, provisioned, shared by a test session."""
    with _provisioned("paper", tmp_path_factory.mktemp("paper")) as lab:
        yield lab


@pytest.fixture(scope="session")
def im_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLab]:
    """Give the lab with every messaging system, provisioned, shared by a test session."""
    with _provisioned("im", tmp_path_factory.mktemp("im")) as lab:
        yield lab


@pytest.fixture(scope="session")
def threats_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLab]:
    """Give the lab with an attacker on its switch, provisioned, shared by a test session."""
    with _provisioned("threats", tmp_path_factory.mktemp("threats")) as lab:
        yield lab


@contextmanager
def _provisioned(name: str, root: Path) -> Iterator[OpenLab]:
    from commands import labs as commands
    from provisioning.sessions import Sessions

    before = os.environ.get("IMLAB_STATE")
    os.environ["IMLAB_STATE"] = str(root)
    try:
        raised = commands.bring_up(PROJECT / "vm_specs" / f"{name}.yaml")
        with Sessions(raised.lab) as sessions:
            yield OpenLab(raised.lab, sessions)
    finally:
        lifecycle.down(name, root)
        if before is None:
            os.environ.pop("IMLAB_STATE", None)
        else:
            os.environ["IMLAB_STATE"] = before
