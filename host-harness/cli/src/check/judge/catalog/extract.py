#!/usr/bin/env python3
"""Writes the tables of this folder from the descriptors in executables of Envoy.

    extract.py ENVOY…

The last executable is that of the newest version. A message is in the tables if a file can name it (../messages.txt and
what follows), or if a field of such a message has it. `catalog.rs` says what a line means.
"""

import mmap
import pathlib
import re
import sys

FOLDER = pathlib.Path(__file__).parent
ROOTS = ["envoy.config.bootstrap.v3.Bootstrap"]
TABLES = [
    ("config.txt", "envoy.config."),
    ("http_filters.txt", "envoy.extensions.filters.http."),
    ("filters.txt", "envoy.extensions.filters."),
    ("extensions_a_k.txt", tuple(f"envoy.extensions.{letter}" for letter in "abcdefghijk")),
    ("extensions_l_z.txt", "envoy.extensions."),
    ("types.txt", ""),
]
# Types of fields by the numbers of `FieldDescriptorProto.Type`.
SCALARS = {1: "f64", 2: "f64", 3: "i64", 4: "u64", 5: "i32", 6: "u64", 7: "u32", 8: "bool", 9: "text", 12: "bytes",
           13: "u32", 14: "enum", 15: "i32", 16: "i64", 17: "i32", 18: "i64"}
MESSAGE = 11
# Messages with a form of their own in JSON; of those without a kind, the tables say nothing.
OF_PROTOBUF = {"DoubleValue": "f64?", "FloatValue": "f64?", "Int64Value": "i64?", "UInt64Value": "u64?",
               "Int32Value": "i32?", "UInt32Value": "u32?", "BoolValue": "bool?", "StringValue": "text?",
               "BytesValue": "bytes?", "Any": "any", "Struct": "object", "Empty": "object"}
# Messages in which a value stands alone, and may be a list.
LISTS = ["google.protobuf.Value", "google.protobuf.ListValue"]


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("no varint")


def parts(data, start=0, stop=None):
    """Number, value and end of each field of a serialised message, up to what is none."""
    at, stop = start, len(data) if stop is None else stop
    while at < stop:
        try:
            tag, at = varint(data, at)
            if tag & 7 == 0:
                value, at = varint(data, at)
            elif tag & 7 == 2:
                length, at = varint(data, at)
                value, at = data[at:at + length], at + length
                if len(value) != length:
                    return
            else:
                return
        except (ValueError, IndexError):
            return
        yield tag >> 3, value, at


def files(data):
    """The longest descriptor of each file. Each begins with the file's name."""
    found = {}
    for match in re.finditer(rb"\n([\x05-\x7f])([A-Za-z0-9_/.\-]+\.proto)", data):
        name = data[match.start() + 2:match.start() + 2 + match[1][0]]
        if not re.fullmatch(rb"[A-Za-z0-9_/.\-]+\.proto", name):
            continue
        fields, end = [], match.start()
        for number, value, after in parts(data, match.start(), match.start() + (1 << 20)):
            # The next descriptor begins with a name of its own; the syntax is the last field.
            if number == 1 and fields or not 1 <= number <= 14 or number == 13:
                break
            fields.append((number, value))
            end = after
            if number == 12:
                break
        if any(number in (4, 5, 6, 7) for number, _ in fields) and end - match.start() > found.get(name, (0,))[0]:
            found[name] = end - match.start(), fields
    return [fields for _, fields in found.values()]


def messages(data):
    """Fields of each message by its name: name, type, name of the type, whether it is a list."""
    found, maps = {}, set()

    def add(package, serialised):
        own = list(parts(serialised))
        name = package + "." + next(value for number, value, _ in own if number == 1).decode()
        fields = []
        for field in ({of: it for of, it, _ in parts(value)} for number, value, _ in own if number == 2):
            fields.append((field[1].decode(), field[5], field.get(6, b"").decode().lstrip("."), field.get(4) == 3))
        found[name] = fields
        for number, value, _ in own:
            if number == 7 and any(inner == 7 and flag for inner, flag, _ in parts(value)):
                maps.add(name)
            if number == 3:
                add(name, value)

    for fields in files(data):
        package = next((value.decode() for number, value in fields if number == 2), "")
        for number, value in fields:
            if number == 4:
                add(package, value)
    return found, maps


def package(name):
    steps = name.split(".")
    versions = [index for index, step in enumerate(steps) if re.match(r"v\d", step)]
    return ".".join(steps[:versions[0] + 1]) if versions else ""


def kind(field, message):
    _, number, inner, _ = field
    if number != MESSAGE:
        return SCALARS[number]
    if inner.startswith("google.protobuf."):
        return OF_PROTOBUF.get(inner.rsplit(".", 1)[1], "")
    around = package(message)
    return inner[len(around):] if around and inner.startswith(around + ".") else inner


def word(field, message, version):
    """The mark of a field, and its kind."""
    known, maps = version
    if field[2] in maps:
        value = next(it for it in known[field[2]] if it[0] == "value")
        return "{}", kind(value, message)
    return "[]" if field[3] or field[2] in LISTS else "", kind(field, message)


def main(executables):
    versions = []
    for path in executables:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            versions.append(messages(data))
    lines = [line.split() for line in (FOLDER / "../messages.txt").read_text().splitlines()]
    open_names = ROOTS + [f"{package}.{name}" for package, *names in lines for name in names]
    done = {}
    while open_names:
        name = open_names.pop()
        having = [version for version in reversed(versions) if name in version[0]]
        if name in done or name in having[0][1] if having else True:
            if not having:
                print(f"no executable has {name}", file=sys.stderr)
            continue
        fields = {}
        for version in having:
            for field in version[0][name]:
                fields.setdefault(field[0], []).append(word(field, name, version))
                inner = [field[2]]
                if field[2] in version[1]:
                    inner = [it[2] for it in version[0][field[2]]]
                open_names += [it for it in inner if it in version[0] and not it.startswith("google.protobuf.")]
        done[name] = fields
    taken = set()
    for file, prefix in TABLES:
        names = sorted(name for name in done if name.startswith(prefix) and name not in taken)
        taken.update(names)
        out = []
        for name in names:
            words = [name]
            for field, variants in done[name].items():
                marks, kinds = zip(*variants)
                # Where versions differ, the tables take what either takes.
                mark = max(marks)
                same = kinds[0] if len(set(kinds)) == 1 else ""
                words.append(field + mark + ("=" + same if same else ""))
            out.append(" ".join(words))
        (FOLDER / file).write_text("".join(line + "\n" for line in out))


main(sys.argv[1:])
