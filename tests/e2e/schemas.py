"""The JSON Schemas in schemas/ as validators; references between the files are resolved here, nothing is fetched."""
import json
from pathlib import Path

import jsonschema
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

FOLDER = Path(__file__).resolve().parents[2] / "schemas"
BASE = "file:///schemas/"  # a scheme that relative references work with; nothing is read from it


def load(path):
    return json.loads((FOLDER / path).read_text())


def paths():
    return sorted(str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*.json"))


def registry():
    return Registry().with_resources(
        [(BASE + p, Resource.from_contents(load(p), default_specification=DRAFT7)) for p in paths()])


class Schemas:
    def __init__(self):
        self.registry, self.made = registry(), {}

    def validator(self, path):
        """By path below schemas/, such as "journal/owner.json"."""
        if path not in self.made:
            self.made[path] = jsonschema.Draft7Validator({"$ref": BASE + path}, registry=self.registry)
        return self.made[path]

    def problems(self, path, value):
        """What is wrong with the value, each as PLACE: MESSAGE; an empty list when nothing is."""
        return [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:300]}"
                for e in self.validator(path).iter_errors(value)]

    def record_types(self):
        """The types of journal records that have a schema."""
        return {Path(p).stem for p in paths() if p.startswith("journal/") and p != "journal/common.json"}
