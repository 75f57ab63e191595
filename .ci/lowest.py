"""Constraints for pip: every base dependency at the lowest version that pyproject.toml allows."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
for line in project["dependencies"]:
    named = re.match(r"([\w-]+)>=([\d.]+)", line)
    if named:
        marker = line.partition(";")[2]
        print(f"{named[1]}=={named[2]}{f' ;{marker}' if marker else ''}")
