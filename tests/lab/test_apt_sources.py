"""Where images are built from: this machine's own sources, narrowed to one suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.apt_sources import (
    Wanted,
    deb822_entries,
    debian_suite,
    machine_sources,
    one_line_entries,
    reaching_settings,
)

if TYPE_CHECKING:
    from pathlib import Path

DEBIAN = 'ID=debian\nVERSION_CODENAME=bookworm\nNAME="Debian GNU/Linux"\n'
UBUNTU = "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n"


def _sources(folder: Path, suite: str, components: tuple[str, ...] = ("main",)) -> dict[str, str]:
    return machine_sources(suite, components, folder, folder / "os-release")


def test_only_debian_of_that_suite_counts() -> None:
    """A derivative's mirror, or another release's, has other packages."""
    assert debian_suite(DEBIAN) == "bookworm"
    assert debian_suite(UBUNTU) is None


def test_one_line_sources_are_narrowed() -> None:
    """Of sources.list the suite, its updates and security stay, with main and their options."""
    text = (
        "# deb http://commented.example/ bookworm main\n"
        "deb http://mirror.example/os bookworm main contrib\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/security bookworm-security main\n"
        "deb-src http://mirror.example/os bookworm main\n"
        "deb http://other.example/ cloud-bookworm main\n"
        "deb http://tools.example/ bookworm stable\n"
        "deb cdrom:[Debian]/ bookworm main\n"
    )
    assert one_line_entries(text, Wanted("bookworm")) == (
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
    assert deb822_entries(text, Wanted("bookworm")) == (
        "Types: deb\nURIs: http://mirror.example/os\nSuites: bookworm\nComponents: main\n"
        "Signed-By: -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ==\n\n"
    )


def test_a_machine_of_another_suite_leaves_the_default(tmp_path: Path) -> None:
    """Then no source of the machine is used, whatever its sources.list says."""
    (tmp_path / "sources.list").write_text("deb http://mirror.example/os bookworm main\n")
    (tmp_path / "os-release").write_text(UBUNTU)
    assert _sources(tmp_path, "bookworm") == {}
    (tmp_path / "os-release").write_text(DEBIAN)
    assert list(_sources(tmp_path, "bookworm")) == ["sources.list"]
    assert _sources(tmp_path, "trixie") == {}


def test_unstable_comes_from_the_mirror_of_the_machine(tmp_path: Path) -> None:
    """With the sections that are asked for; updates and security, which it has not, are left."""
    (tmp_path / "sources.list").write_text(
        "deb [signed-by=/k.gpg] http://mirror.example/os bookworm main\n"
        "deb http://mirror.example/os bookworm-updates main\n"
    )
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "more.sources").write_text(
        "Types: deb\nURIs: http://second.example/\nSuites: bookworm bookworm-updates\n"
        "Components: main\n\n"
        "Types: deb\nURIs: http://security.example/\nSuites: bookworm-security\n"
        "Components: main\n"
    )
    (tmp_path / "os-release").write_text(DEBIAN)
    assert _sources(tmp_path, "sid", ("main", "contrib")) == {
        "sources.list": "deb [signed-by=/k.gpg] http://mirror.example/os sid main contrib\n",
        "more.sources": "Types: deb\nURIs: http://second.example/\nSuites: sid\n"
        "Components: main contrib\n\n",
    }


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
