"""Everything is in pyproject.toml; this only turns away other Pythons, which uv would install into all the same."""

import sys

from setuptools import setup

if not (3, 10) <= sys.version_info[:2] <= (3, 12):
    sys.exit(
        f"fewshot-ns needs Python 3.10, 3.11 or 3.12, this is {sys.version_info[0]}.{sys.version_info[1]}; "
        "with uv: uv venv --python 3.12"
    )

setup()
