//! Rules: the kinds of findings, each with its name and its severity.

use super::finding::Severity;

/// Kind of a finding. Names are stable: scripts may select findings by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) severity: Severity,
}

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal, $severity:ident;)*) => {
        $($(#[$doc])* pub(super) const $rule: Rule = Rule { name: $name, severity: Severity::$severity };)*

        /// All rules.
        #[cfg(test)]
        pub(super) const ALL: &[Rule] = &[$($rule),*];
    };
}

rules! {
    /// A given file cannot be read.
    UNREADABLE = "unreadable", Error;
    /// A file is neither YAML nor JSON.
    SYNTAX = "syntax", Error;
    /// A file whose name tells Envoy another language than YAML or JSON, or another one than it has.
    FORMAT = "format", Error;
    /// A key that is more than once in an object of JSON, where Envoy refuses it.
    REPEATED_KEY = "repeated-key", Error;
    /// A wasm filter, or a `FilterConfig` at a route, without the field that has everything.
    MISSING_CONFIG = "missing-config", Error;
    /// A merge key, which Envoy does not resolve.
    MERGE_KEY = "merge-key", Error;
    /// A field of a plugin has a type that Envoy refuses.
    TYPE = "type", Error;
    /// Two fields of a message of which it may have one.
    ONEOF = "oneof", Error;
    /// A field that Envoy requires is missing or empty.
    REQUIRED = "required", Error;
    /// A number, a duration or a length that Envoy refuses.
    BOUNDS = "bounds", Error;
    /// A field that no version of Envoy has.
    UNKNOWN_FIELD = "unknown-field", Error;
    /// The wasm file is not there.
    MISSING_MODULE = "missing-module", Error;
    /// The wasm file of a plugin that is not Weir's is not at its absolute path on this machine.
    ABSENT_MODULE = "absent-module", Warning;
    /// The VM of a limiter may not call what it needs.
    CAPABILITIES = "capabilities", Error;
    /// The wasm file is no proxy-wasm module.
    MODULE = "module", Error;
    /// A runtime that Envoy does not have.
    RUNTIME = "runtime", Error;
    /// A variable with a value that is also copied.
    DUPLICATE_VARIABLE = "duplicate-variable", Error;
    /// A plugin of Weir has neither root id.
    ROOT_ID = "root-id", Error;
    /// The filter refuses its configuration.
    CONFIGURATION = "configuration", Error;
    /// An image as the code of a plugin that Envoy fetches itself.
    IMAGE = "image", Error;
    /// Two clusters of a bootstrap have the same name.
    DUPLICATE_CLUSTER = "duplicate-cluster", Error;
    /// An HTTP filter has no name.
    FILTER_NAME = "filter-name", Error;
    /// A file of resources has a path without a folder.
    BARE_PATH = "bare-path", Error;
    /// A filter's `config_discovery` that Envoy refuses, or a message of a type that it does not list.
    DISCOVERY = "discovery", Error;
    /// Limits read bodies that Envoy does not show.
    UNSEEN_BODY = "unseen-body", Error;
    /// The cluster of Redis does not exist.
    MISSING_CLUSTER = "missing-cluster", Error;
    /// The cluster of Redis does not send raw TCP.
    RAW_TCP = "raw-tcp", Error;
    /// The bridge is missing, or in front of callouts.
    BRIDGE = "bridge", Error;
    /// A role of Weir stands where it cannot work.
    MISPLACED = "misplaced", Error;
    /// A plugin of the same VM does not list a variable.
    UNLISTED_VARIABLE = "unlisted-variable", Error;
    /// `failure_policy` and `fail_open` exclude each other.
    TWO_POLICIES = "two-policies", Error;
    /// A filter behind the last one, which answers or forwards all requests.
    NOT_LAST = "not-last", Error;
    /// A key that is there more than once.
    DUPLICATE_KEY = "duplicate-key", Warning;
    /// A document that Envoy does not read.
    EXTRA_DOCUMENT = "extra-document", Warning;
    /// A file that is referred to cannot be read here.
    UNREAD_FILE = "unread-file", Warning;
    /// A file of resources lacks the one that a filter names.
    MISSING_RESOURCE = "missing-resource", Warning;
    /// Plugins of the same VM have different environments.
    ENVIRONMENTS = "environments", Warning;
    /// The filter corrects a value.
    CORRECTED = "corrected", Warning;
    /// Limits match paths that are not normalized.
    PATHS = "paths", Warning;
    /// `trusted_hops`, and a downstream address that is one of `x-forwarded-for` already.
    TRUSTED_HOPS = "trusted-hops", Warning;
    /// A bootstrap reads resources, and does not say which proxy it is.
    NODE = "node", Warning;
    /// A listener buffers less of a body than the limiter reads.
    BUFFER = "buffer", Warning;
    /// A circuit breaker is lower than `max_in_flight`.
    BREAKER = "breaker", Warning;
    /// A trap would be permanent.
    FAILURE_POLICY = "failure-policy", Warning;
    /// Remote code without a version in `vm_id`.
    VM_ID = "vm-id", Warning;
    /// The image of a plugin has no version.
    UNVERSIONED = "unversioned", Warning;
    /// A cluster is in a manifest for other proxies than the limiter's.
    SCOPE = "scope", Warning;
    /// TLS to Redis without SNI or without a check of the name.
    TLS = "tls", Warning;
    /// Several endpoints of Redis, and no health check that selects one.
    ENDPOINTS = "endpoints", Warning;
    /// `redis_proxy` without what a Redis Cluster needs, or a limiter that does not know that it asks one.
    REDIS_CLUSTER = "redis-cluster", Warning;
    /// A limit reads what a later filter writes, or no filter.
    ORDER = "order", Warning;
    /// A limit reads a header that is the mark of a limit.
    MARK = "mark", Warning;
    /// The limiter is disabled, and no route enables it.
    DISABLED = "disabled", Warning;
    /// An environment variable is not set here.
    UNSET_VARIABLE = "unset-variable", Note;
    /// The cluster of Redis is not in the files given.
    UNKNOWN_CLUSTER = "unknown-cluster", Note;
    /// Istio's proxies do not show the counters of the filter.
    STATS = "stats", Note;
    /// Kubernetes manifests without anything of Weir.
    MANIFEST = "manifest", Note;
    /// No limiter is in the files.
    NO_LIMITER = "no-limiter", Note;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_documented_with_its_severity() {
        let page = include_str!("../../../../docs/src/cli.md");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        for rule in ALL {
            let start = format!("| `{}` | {} |", rule.name, rule.severity.name());
            assert!(rows.iter().any(|row| row.starts_with(&start)), "docs/src/cli.md has no row {start}");
        }
    }
}
