"""Packages of gancore and its optional native extension; everything else is declared in pyproject.toml."""

from setuptools import find_packages, setup

setup(version="0.1.0", packages=find_packages(include=["gancore", "gancore.*"]), package_data={"gancore": ["py.typed"]})
