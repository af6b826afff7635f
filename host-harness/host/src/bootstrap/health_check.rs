//! Parser of a cluster's health check, of which only the check over TCP is supported.

use std::time::Duration;

use base64::Engine as _;

use super::document::Node;
use super::support;

/// Active health check of a cluster's endpoints over TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Time within which an endpoint has to connect and answer.
    pub timeout: Duration,
    /// Time from a check to the next one.
    pub interval: Duration,
    /// Number of checks in a row that have to fail before a healthy endpoint is unhealthy.
    pub unhealthy_threshold: u32,
    /// Number of checks in a row that have to pass before an unhealthy endpoint is healthy again.
    pub healthy_threshold: u32,
    /// Bytes that are sent; `None`: an endpoint that connects passes.
    pub send: Option<Vec<u8>>,
    /// Bytes that the answer has to have, in this order, with any other bytes between.
    pub receive: Vec<Vec<u8>>,
}

/// Parses `health_checks`.
pub(super) fn health_checks(node: &Node<'_>) -> Option<Option<HealthCheck>> {
    let mut checks = node.each(health_check).into_iter().collect::<Option<Vec<_>>>()?;
    if checks.len() > 1 {
        node.unsupported("expected one health check, found several");
        return None;
    }
    Some(checks.pop())
}

fn health_check(node: &Node<'_>) -> Option<HealthCheck> {
    let mut fields = node.message(&support::HEALTH_CHECK)?;
    let timeout = fields.require("timeout").and_then(|node| node.duration());
    let interval = fields.require("interval").and_then(|node| node.duration());
    let mut threshold = |name: &str| fields.require(name).and_then(|node| node.integer("a number of 32 bits"));
    let (unhealthy_threshold, healthy_threshold) = (threshold("unhealthy_threshold"), threshold("healthy_threshold"));
    let tcp = fields.require("tcp_health_check");
    fields.finish();
    let mut fields = tcp?.message(&support::TCP_HEALTH_CHECK)?;
    let send = fields.take("send").map(|node| payload(&node));
    let receive = fields.take("receive").map(|node| node.each(payload)).unwrap_or_default();
    fields.finish();
    Some(HealthCheck {
        timeout: timeout?,
        interval: interval?,
        unhealthy_threshold: unhealthy_threshold?,
        healthy_threshold: healthy_threshold?,
        send: send.map_or(Some(None), |send| send.map(Some))?,
        receive: receive.into_iter().collect::<Option<_>>()?,
    })
}

fn payload(node: &Node<'_>) -> Option<Vec<u8>> {
    let mut fields = node.message(&support::PAYLOAD)?;
    let (text, binary) = (fields.take("text"), fields.take("binary"));
    fields.finish();
    match (text, binary) {
        (Some(text), None) => unhex(&text.string()?).or_else(|| text.expected("bytes in hexadecimal digits")),
        (None, Some(binary)) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(binary.string()?);
            bytes.ok().filter(|bytes| !bytes.is_empty()).or_else(|| binary.expected("bytes in Base64"))
        }
        _ => node.expected("one of `text` and `binary`"),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().map(|digit| digit.to_digit(16)?.try_into().ok()).collect::<Option<Vec<u8>>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    (!pairs.is_empty()).then(|| pairs.iter().map(|[high, low]| high * 16 + low).collect())
}

/// Parses `common_lb_config`; returns the panic threshold in percent.
pub(super) fn panic_threshold(node: &Node<'_>) -> Option<u32> {
    let mut fields = node.message(&support::COMMON_LB)?;
    let threshold = fields.take("healthy_panic_threshold");
    fields.finish();
    let Some(threshold) = threshold else { return Some(super::cluster::PANIC_THRESHOLD) };
    let mut fields = threshold.message(&support::PERCENT)?;
    let value = fields.take("value").map_or(Some(0), |node| node.integer("a whole percentage"));
    fields.finish();
    value
}

#[cfg(test)]
mod tests {
    use super::unhex;

    #[test]
    fn payloads_are_pairs_of_hexadecimal_digits() {
        assert_eq!(unhex("524f4c450d0A").as_deref(), Some(&b"ROLE\r\n"[..]));
        for text in ["", "5", "5g", "52 4f", "€0"] {
            assert_eq!(unhex(text), None, "{text}");
        }
    }
}
