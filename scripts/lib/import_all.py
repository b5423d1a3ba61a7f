"""Import every module of the three packages; for CI on the oldest supported Python and numpy."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import numpy as np

PACKAGES = ("b1k_envs", "b1k_policies", "b1k_eval")


def main() -> None:
    def fail(name: str) -> None:
        raise SystemExit(f"cannot import the package {name}: {sys.exc_info()[1]!r}")

    count = 0
    for package in PACKAGES:
        root = importlib.import_module(package)
        count += 1
        for module in pkgutil.walk_packages(root.__path__, f"{package}.", onerror=fail):
            if module.name.endswith(".__main__"):
                continue
            importlib.import_module(module.name)
            count += 1
    print(f"{count} modules import on Python {sys.version.split()[0]} with numpy {np.__version__}")


if __name__ == "__main__":
    main()
