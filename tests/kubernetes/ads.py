"""ADS server of the tests: serves the resources of a file over gRPC, state of the world and delta.

Usage: ads.py FILE. FILE is JSON: type URL -> resource name -> resource, in protobuf's JSON. An unknown field ends the
program, as a control plane would refuse it. The file is read again when it changes, and what has changed is sent to all
streams. Standard output has the port first, then one line for each refusal by Envoy (NACK).
"""

import hashlib
import importlib
import json
import os
import pkgutil
import queue
import sys
import threading
import time
from concurrent import futures

import grpc
from google.protobuf import any_pb2, json_format, symbol_database
import envoy.service.discovery.v3.ads_pb2_grpc as ads_grpc
import envoy.service.discovery.v3.discovery_pb2 as discovery

FILE = sys.argv[1]
SYMBOLS = symbol_database.Default()


def message_class(type_url):
    """Imports the modules of a type's package until one of them defines the type."""
    name = type_url.split("/")[-1]
    package = name.rsplit(".", 1)[0]
    if not package.startswith("google.protobuf"):
        folder = importlib.import_module(package)
        for module in pkgutil.iter_modules(folder.__path__):
            if module.name.endswith("_pb2"):
                importlib.import_module(f"{package}.{module.name}")
    else:
        for module in ["struct_pb2", "wrappers_pb2"]:
            importlib.import_module(f"google.protobuf.{module}")
    return SYMBOLS.GetSymbol(name)


def import_types(value):
    """Imports the types of all messages in a value that name theirs."""
    if isinstance(value, dict):
        if "@type" in value:
            message_class(value["@type"])
        for item in value.values():
            import_types(item)
    elif isinstance(value, list):
        for item in value:
            import_types(item)


def read():
    """Returns type URL -> resource name -> (version, Any)."""
    with open(FILE, encoding="utf-8") as file:
        document = json.load(file)
    resources = {}
    for type_url, named in document.items():
        of_type = resources[type_url] = {}
        for name, fields in named.items():
            import_types(fields)
            message = json_format.ParseDict(fields, message_class(type_url)())
            packed = any_pb2.Any(type_url=type_url, value=message.SerializeToString(deterministic=True))
            of_type[name] = (hashlib.sha256(packed.value).hexdigest()[:12], packed)
    return resources


class Store:
    """The resources, and the queues of the streams that wait for changes."""

    def __init__(self):
        self.resources = read()
        self.streams = []

    def watch(self):
        seen = os.stat(FILE).st_mtime_ns
        while True:
            time.sleep(0.05)
            now = os.stat(FILE).st_mtime_ns
            if now != seen:
                seen = now
                self.resources = read()
                for stream in list(self.streams):
                    stream.put(None)


STORE = Store()


def refused(type_url, detail):
    print(f"NACK {type_url}: {detail.message}", flush=True)


class Stream:
    """What one Envoy has asked for and been sent, by type URL."""

    def __init__(self, requests):
        self.wanted, self.sent, self.nonce = {}, {}, 0
        self.events = queue.Queue()
        STORE.streams.append(self.events)
        threading.Thread(target=self.receive, args=(requests,), daemon=True).start()

    def receive(self, requests):
        try:
            for request in requests:
                self.events.put(request)
        except grpc.RpcError:
            pass
        self.events.put(StopIteration)

    def next_nonce(self):
        self.nonce += 1
        return str(self.nonce)

    def matching(self, type_url):
        """Returns the resources that are wanted: all if no name was given."""
        named, of_type = self.wanted[type_url], STORE.resources.get(type_url, {})
        return {name: it for name, it in of_type.items() if not named or name in named}


class Ads(ads_grpc.AggregatedDiscoveryServiceServicer):
    def StreamAggregatedResources(self, requests, context):
        stream = Stream(requests)
        while (event := stream.events.get()) is not StopIteration:
            types = list(stream.wanted)
            if event is not None:
                types = [event.type_url]
                if event.error_detail.message:
                    refused(event.type_url, event.error_detail)
                stream.wanted[event.type_url] = set(event.resource_names)
            for type_url in types:
                found = stream.matching(type_url)
                versions = {name: version for name, (version, _) in found.items()}
                # An empty state is sent, too: Envoy waits for it when it starts.
                if stream.sent.get(type_url) != versions:
                    stream.sent[type_url] = versions
                    yield discovery.DiscoveryResponse(
                        version_info=str(sorted(versions.items())), type_url=type_url, nonce=stream.next_nonce(),
                        resources=[packed for _, packed in found.values()])

    def DeltaAggregatedResources(self, requests, context):
        stream = Stream(requests)
        while (event := stream.events.get()) is not StopIteration:
            types = list(stream.wanted)
            if event is not None:
                types = [event.type_url]
                if event.error_detail.message:
                    refused(event.type_url, event.error_detail)
                named = stream.wanted.setdefault(event.type_url, set())
                named |= set(event.resource_names_subscribe) - {"*"}
                named -= set(event.resource_names_unsubscribe)
            for type_url in types:
                is_first = type_url not in stream.sent
                found, sent = stream.matching(type_url), stream.sent.setdefault(type_url, {})
                changed = {name: it for name, it in found.items() if sent.get(name) != it[0]}
                removed = [name for name in sent if name not in found]
                if changed or removed or is_first:
                    for name in removed:
                        del sent[name]
                    sent.update({name: version for name, (version, _) in changed.items()})
                    yield discovery.DeltaDiscoveryResponse(
                        type_url=type_url, nonce=stream.next_nonce(), removed_resources=removed,
                        resources=[discovery.Resource(name=name, version=version, resource=packed)
                                   for name, (version, packed) in changed.items()])


def main():
    server = grpc.server(futures.ThreadPoolExecutor(8))
    ads_grpc.add_AggregatedDiscoveryServiceServicer_to_server(Ads(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    STORE.watch()


if __name__ == "__main__":
    main()
