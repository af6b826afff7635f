"""Compares manifests with CustomResourceDefinitions: `validate.py FOLDER MANIFESTS.json`.

FOLDER has YAML files of definitions. MANIFESTS.json is an object of manifests by name. Each difference is printed, and
each manifest whose kind has a definition is named. Fields that a definition does not know are differences, as for
`kubectl apply --validate=strict`.
"""

import json
import pathlib
import sys

import jsonschema
import yaml

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def strict(schema):
    """Turns a schema of Kubernetes' dialect into JSON Schema without unknown fields, in place."""
    if isinstance(schema, list):
        for item in schema:
            strict(item)
    if not isinstance(schema, dict):
        return
    if schema.get("x-kubernetes-int-or-string") is True:
        schema.pop("anyOf", None)
        schema["type"] = ["integer", "string"]
    if schema.pop("nullable", None) is True and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
        for field in schema["properties"].values():
            strict(field)
    for name, part in schema.items():
        if name != "properties":
            strict(part)


def definitions(folder):
    """Returns the schemas in a folder by apiVersion and kind."""
    found = {}
    for file in sorted(pathlib.Path(folder).glob("*.yaml")):
        for document in yaml.load_all(file.read_text(), Loader):
            if document and document.get("kind") == "CustomResourceDefinition":
                spec = document["spec"]
                for version in spec["versions"]:
                    schema = version["schema"]["openAPIV3Schema"]
                    key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                    found[key] = schema
    return found


known = definitions(sys.argv[1])
for name, manifest in json.loads(pathlib.Path(sys.argv[2]).read_text()).items():
    schema = known.get((manifest["apiVersion"], manifest["kind"]))
    if schema is None:
        continue
    strict(schema)
    for field in ("apiVersion", "kind", "metadata"):
        schema["properties"][field] = {}
    for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest):
        print(f"ERROR {name}: {'.'.join(map(str, error.path))}: {error.message[:300]}")
    print(f"compared {name}")
