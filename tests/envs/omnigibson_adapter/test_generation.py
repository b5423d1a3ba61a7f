"""Which generation is installed, told from made-up installations: none of them is ever imported."""

import re
import sys

import pytest

from b1k_envs.errors import UnavailableError
from b1k_envs.omnigibson.setup import generation
from b1k_envs.omnigibson.setup.generation import (
    GENERATIONS,
    has_vectorised_api,
    installed_generation,
    installed_version,
    metadata_version,
    package_folder,
)

VECTORISED = "class Environment:\n    def __init__(self):\n        self.num_envs = 1\n"
SINGLE = "class Environment:\n    pass\n"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Lay a package down that cannot be imported, with a version and perhaps an environment."""

    def lay(version, *, metadata=None, env_base=None):
        package = tmp_path / "OmniGibson" / "omnigibson"
        (package / "envs").mkdir(parents=True)
        line = f'__version__ = "{version}"\n' if version else ""
        (package / "__init__.py").write_text(f"{line}raise RuntimeError('imported')\n")
        if env_base is not None:
            (package / "envs" / "env_base.py").write_text(env_base)
        if metadata is not None:
            info = package.parent / f"omnigibson-{metadata}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: omnigibson\nVersion: {metadata}\n"
            )
        monkeypatch.syspath_prepend(str(package.parent))
        return package

    monkeypatch.delitem(sys.modules, "omnigibson", raising=False)
    return lay


def test_nothing_installed_is_said_to_be_so():
    assert package_folder() is None
    assert installed_version() is None
    assert metadata_version() is None
    assert has_vectorised_api() is None
    with pytest.raises(UnavailableError, match="not installed in this Python"):
        installed_generation()


@pytest.mark.parametrize("number", ["3.7.2", "v3.7.2", "3.7.2.post1", "3.7.2+cu124"])
def test_the_2025_tag_is_recognised(install, number):
    package = install(number, env_base=SINGLE)
    assert installed_generation() is installed_generation("2025") is GENERATIONS["2025"]
    assert package_folder() == package
    assert "omnigibson" not in sys.modules


@pytest.mark.parametrize("number", ["3.9.3", "3.9.3.post1", "v3.9.3-post2", "3.9.3.post3+cu128"])
def test_the_2026_tag_and_its_post_releases_are_recognised(install, number):
    install(number, env_base=VECTORISED)
    assert installed_generation() is installed_generation("2026") is GENERATIONS["2026"]


@pytest.mark.parametrize("number", ["3.9.0", "3.9.1", "3.9.2", "3.9.2.post1"])
def test_the_single_env_2026_versions_are_refused(install, number):
    install(number, env_base=SINGLE)
    with pytest.raises(UnavailableError, match="single-env 2026 evaluator") as refused:
        installed_generation()
    for words in (number, "v3.7.2 (--protocol 2025)", "v3.9.3", "--sim mujoco"):
        assert words in str(refused.value)


@pytest.mark.parametrize("number", ["3.7.0", "3.7.1"])
def test_2025_versions_before_the_tag_are_refused_for_their_score(install, number):
    install(number)
    with pytest.raises(UnavailableError, match="another denominator"):
        installed_generation()


@pytest.mark.parametrize("number", ["1.1.0", "3.8.0", "3.9.4", "3.10.0", "4.0.0", "3.9.3rc1", "x"])
def test_any_other_version_is_refused(install, number):
    install(number, env_base=VECTORISED)
    with pytest.raises(UnavailableError, match="not a version this adapter was written for"):
        installed_generation()


def test_the_other_years_protocol_is_refused(install):
    install("3.9.3", env_base=VECTORISED)
    wanted = r"--protocol 2025 needs BEHAVIOR-1K v3\.7\.2.*3\.9\.3 is installed.*--protocol 2026"
    with pytest.raises(UnavailableError, match=wanted):
        installed_generation("2025")


def test_the_text_of_the_package_goes_before_its_metadata(install):
    """`setup.py` of 3.9.x still says 3.8.0, so going by the metadata would refuse v3.9.3."""
    install("3.9.3", metadata="3.8.0", env_base=VECTORISED)
    assert metadata_version() == "3.8.0"
    assert installed_version() == "3.9.3"
    assert installed_generation().protocol == "2026"


def test_the_metadata_are_taken_where_the_text_has_no_version(install):
    install(None, metadata="3.7.2")
    assert installed_version() == "3.7.2"
    assert installed_generation().protocol == "2025"


def test_a_state_with_the_vectorised_api_counts_as_2026_though_it_says_3_9_2(install):
    install("3.9.2", env_base=VECTORISED)
    assert installed_generation().protocol == "2026"


def test_a_3_9_3_without_the_vectorised_api_is_refused(install):
    install("3.9.3", env_base=SINGLE)
    with pytest.raises(UnavailableError, match=r"has no num_envs.*check out the tag"):
        installed_generation()


def test_a_loaded_module_without_a_spec_counts_as_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "omnigibson", type(sys)("omnigibson"))
    assert package_folder() is None


def test_nothing_heavy_is_imported_at_module_level():
    text = generation.__spec__.loader.get_source(generation.__name__)
    assert not re.search(r"^\s*(import|from) (omnigibson|torch|mujoco)", text, re.MULTILINE)
