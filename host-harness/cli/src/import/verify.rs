//! Check of the result by the filter's own reader: what it refuses is left out, with its reason.

use weir_filter::config;

use super::finding::{self, Findings};
use super::plan::{Configuration, Limit, Settings};
use super::writer;

/// Most limits of a configuration.
const MAX_LIMITS: usize = 32;

/// Leaves out what the filter refuses.
pub(super) fn verify(configuration: &mut Configuration, cluster: &str, findings: &mut Findings) {
    let accepts = |limit: &Limit, settings: &Settings| {
        let json = writer::json_of(limit, settings, cluster).to_string();
        config::parse(json.as_bytes(), &|_| None).map(drop).map_err(|errors| errors.to_string())
    };
    configuration.limits.retain(|limit| match accepts(limit, &Settings::default()) {
        Ok(()) => true,
        Err(why) => {
            let what = format!("the limit {} is beyond the bounds of Weir", limit.name);
            findings.add_at(finding::BOUNDS, limit.place.clone(), what, why);
            false
        }
    });
    if let Some(limit) = configuration.limits.get(MAX_LIMITS) {
        let more = configuration.limits.len().saturating_sub(MAX_LIMITS);
        let help = "a Weir filter has at most 32 limits: put the others into a second one, from a second import";
        findings.add_at(finding::BOUNDS, limit.place.clone(), format!("{more} limits more than 32"), help);
        configuration.limits.truncate(MAX_LIMITS);
    }
    let Some(first) = configuration.limits.first() else { return };
    if let Err(why) = accepts(first, &configuration.settings) {
        findings.add_at(finding::BOUNDS, first.place.clone(), "a setting beyond the bounds of Weir", why);
        let Settings { headers, is_body_empty, denies_on_failure, .. } = configuration.settings.clone();
        configuration.settings = Settings { headers, is_body_empty, denies_on_failure, ..Settings::default() };
    }
}
