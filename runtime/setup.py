"""Before it is built in a clone, the package gets its copies of files of osr; an sdist holds them."""

import runpy
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent

if (HERE / "copies.py").is_file():
    runpy.run_path(str(HERE / "copies.py"), run_name="__main__")
setup()
