"""PEP 517 and PEP 660 hooks: setuptools' own, plus a Go toolchain if none is here.

A build requirement in pyproject.toml would make every build download 70 MB of
Go, also where a suitable Go is on PATH. So it is asked for here, when needed.
"""

import shutil
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from toolchain import GO_REQUIREMENT, find_go_on_path

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]


def _go_requirement() -> list[str]:
    return [] if find_go_on_path() else [GO_REQUIREMENT]


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    # setuptools copies modules here and packs what it finds, also those that a build
    # before this one copied and that are gone from the tree since.
    for folder in Path("build").glob("lib*"):
        shutil.rmtree(folder)
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def get_requires_for_build_wheel(config_settings=None):
    return build_meta.get_requires_for_build_wheel(config_settings) + _go_requirement()


def get_requires_for_build_editable(config_settings=None):
    return build_meta.get_requires_for_build_editable(config_settings) + _go_requirement()
