"""Where images are built from: this machine's own sources, narrowed to one suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.apt_sources import (
    deb822_entries,
    is_suite,
    machine_sources,
    one_line_entries,
    reaching_settings,
)

if TYPE_CHECKING:
    from pathlib import Path

DEBIAN = 'ID=debian\nVERSION_CODENAME=bookworm\nNAME="Debian GNU/Linux"\n'
UBUNTU = "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n"


def test_only_debian_of_that_suite_counts() -> None:
    """A derivative's mirror, or another release's, has other packages."""
    assert is_suite(DEBIAN, "bookworm")
    assert not is_suite(DEBIAN, "trixie")
    assert not is_suite(UBUNTU, "noble")


def test_one_line_sources_are_narrowed() -> None:
    """Of sources.list the suite, its updates and security stay, with main and their options."""
    text = (
        "# deb http://commented.example/ bookworm main\n"
        "deb http://mirror.example/os bookworm main contrib\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/security bookworm-security main\n"
        "deb-src http://mirror.example/os bookworm main\n"
        "deb http://other.example/ cloud-bookworm main\n"
        "deb cdrom:[Debian]/ bookworm main\n"
    )
    assert one_line_entries(text, "bookworm") == (
        "deb http://mirror.example/os bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/security bookworm-security main\n"
    )


def test_deb822_sources_are_narrowed() -> None:
    """Of a .sources file fitting stanzas stay; comments, disabled and foreign ones go."""
    text = (
        "# a comment\nTypes: deb deb-src\nURIs: http://mirror.example/os\n"
        "Suites: bookworm bookworm-backports\nComponents: main contrib\nSigned-By:\n"
        " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ==\n"
        "\n"
        "Types: deb\nURIs: http://off.example/\nSuites: bookworm\nComponents: main\nEnabled: no\n"
        "\n"
        "Types: deb\nURIs: http://node.example/\nSuites: nodistro\nComponents: main\n"
    )
    assert deb822_entries(text, "bookworm") == (
        "Types: deb\nURIs: http://mirror.example/os\nSuites: bookworm\nComponents: main\n"
        "Signed-By: -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ==\n\n"
    )


def test_a_machine_of_another_suite_leaves_the_default(tmp_path: Path) -> None:
    """Then no source of the machine is used, whatever its sources.list says."""
    (tmp_path / "sources.list").write_text("deb http://mirror.example/os bookworm main\n")
    (tmp_path / "os-release").write_text(UBUNTU)
    assert machine_sources("bookworm", tmp_path, tmp_path / "os-release") == {}
    (tmp_path / "os-release").write_text(DEBIAN)
    assert list(machine_sources("bookworm", tmp_path, tmp_path / "os-release")) == ["sources.list"]


def test_only_settings_about_reaching_mirrors_are_taken_over() -> None:
    """Proxies and checks hold for the build; hooks, caches and the like stay the machine's."""
    dump = (
        'Acquire::http::Proxy "http://proxy.example:3128";\n'
        'Acquire::Check-Valid-Until "false";\n'
        'Acquire::http::User-Agent "x";\n'
        'DPkg::Post-Invoke:: "rm -f /var/cache/apt/archives/*.deb || true";\n'
        'Dir::Cache::pkgcache "";\n'
    )
    assert reaching_settings(dump) == [
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::Check-Valid-Until "false";',
    ]
