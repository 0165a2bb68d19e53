"""Debian's packages: installed where we are root, else asked for in a sentence."""

import os
import subprocess

from data_prep import DataError


def apt_install(package: str, otherwise: str) -> None:
    """Install a Debian package; where that fails, DataError says how to do it by hand.

    otherwise: a clause that names another way than the package.
    """
    by_hand = f"install Debian's package {package} (`sudo apt-get install {package}`) {otherwise}"
    if os.geteuid() != 0:
        raise DataError(f"{package} is not installed and we are not root: {by_hand}")
    print(f"Installing Debian's package {package}", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package],
    ):
        try:
            subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise DataError(f"{package} is missing and there is no apt-get: {by_hand}") from None
        except subprocess.CalledProcessError as error:
            said = (error.stderr.strip() or "no reason given").splitlines()
            raise DataError(f"`{' '.join(command)}` failed ({said[-1]}); {by_hand}") from None
