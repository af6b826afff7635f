//! Prices of models, and the cost of a response in billionths of a dollar.
//!
//! A price is a whole number of millionths of a dollar for a million tokens, so that a token costs a whole number of
//! 10⁻¹² dollars. A response's cost is the sum over its tokens, rounded up once to 10⁻⁹ dollars (nano-USD): no response
//! costs nothing because it is small, and none costs a nano-USD too much because it has several kinds of tokens.

use alloc::string::String;
use alloc::vec::Vec;

use super::amounts::Usage;
use crate::descriptor::decimal;

/// Price in millionths of a dollar for a million tokens: 0 to 2⁴⁰, which is more than a dollar a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Price(pub u64);

impl Price {
    /// Greatest price.
    pub const MAX: Self = Self(1 << 40);
    const DECIMALS: usize = 6;

    /// Reads dollars for a million tokens, with up to 6 decimals: `3`, `0.075`. `None` for any other text, and beyond
    /// [`MAX`](Self::MAX).
    #[must_use]
    pub fn parse(dollars: &str) -> Option<Self> {
        let (whole, decimals) = dollars.split_once('.').unwrap_or((dollars, "0"));
        let digits = |text: &str| (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(());
        digits(whole).and(digits(decimals))?;
        let zeros = Self::DECIMALS.checked_sub(decimals.len())?;
        let micros = [whole, decimals, "000000".get(..zeros)?].concat().parse().ok()?;
        Some(Self(micros)).filter(|price| *price <= Self::MAX)
    }
}

/// Prices of one model, by kind of token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Price of [`Usage::input`].
    pub input: Price,
    /// Price of [`Usage::cache_read`].
    pub cached_input: Price,
    /// Price of [`Usage::cache_write`].
    pub cache_write: Price,
    /// Price of [`Usage::cache_write_1h`].
    pub cache_write_1h: Price,
    /// Price of [`Usage::output`].
    pub output: Price,
}

/// Prices of the models whose names a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPrice {
    /// Name, or its beginning.
    pub name: String,
    /// Whether `name` is the whole name.
    pub is_exact: bool,
    /// Prices of a request's tokens.
    pub rates: Rates,
    /// Prices of all tokens of a request that has more tokens than this, cached ones included.
    pub above: Option<(u64, Rates)>,
}

/// Factor of a service tier, in thousandths: 500 for half the price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierFactor {
    /// Tier as responses name it.
    pub tier: String,
    /// Thousandths of the price: 1 to 1,000,000.
    pub thousandths: u64,
}

/// Treatment of models without a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownModel {
    /// Requests for them are rejected.
    #[default]
    Reject,
    /// Each kind of token costs what it costs at the dearest model.
    Dearest,
}

/// Prices of all models.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prices {
    /// Models, in the order configured.
    pub models: Vec<ModelPrice>,
    /// Service tiers with another price.
    pub tiers: Vec<TierFactor>,
    /// Treatment of other models.
    pub unknown: UnknownModel,
}

/// Cost in nano-USD: 0 to 2⁵³ − 1, which Redis' scripts count exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct NanoUsd(pub u64);

impl NanoUsd {
    /// Greatest cost, some 9 million dollars.
    pub const MAX: Self = Self((1 << 53) - 1);
    const DECIMALS: i64 = 9;

    /// Reads dollars in any spelling of JSON, rounded up. `None` for a negative number, one beyond [`MAX`](Self::MAX), and
    /// any other text.
    #[must_use]
    pub fn of_dollars(dollars: &[u8]) -> Option<Self> {
        let (nanos, is_exact) = decimal(dollars, Self::DECIMALS)?;
        Some(Self(nanos.saturating_add((!is_exact).into()))).filter(|cost| *cost <= Self::MAX)
    }

    /// Converts units of 10⁻¹⁰ dollars, rounded up. `None` beyond [`MAX`](Self::MAX).
    #[must_use]
    pub fn of_ticks(ticks: u64) -> Option<Self> {
        Some(Self(ticks.div_ceil(10))).filter(|cost| *cost <= Self::MAX)
    }
}

impl Prices {
    /// Whether `model` has a price.
    #[must_use]
    pub fn knows(&self, model: &str) -> bool {
        self.unknown == UnknownModel::Dearest || self.model(model).is_some()
    }

    /// Returns the prices with `models` in place of those of the same names, and beside the others.
    #[must_use]
    pub fn with(&self, models: &[ModelPrice]) -> Self {
        let is_of = |own: &ModelPrice, other: &ModelPrice| own.is_exact == other.is_exact && own.name == other.name;
        let is_kept = |own: &&ModelPrice| !models.iter().any(|other| is_of(own, other));
        Self { models: self.models.iter().filter(is_kept).chain(models).cloned().collect(), ..self.clone() }
    }

    /// Returns the cost of `usage` at the first of `models` that has a price, in service tier `tier`; at the dearest model
    /// if none has.
    #[must_use]
    pub fn cost_at(&self, models: [&str; 2], tier: Option<&str>, usage: &Usage) -> NanoUsd {
        self.rates(models, usage).cost(usage, self.factor(tier))
    }

    /// Returns the most that `usage` may cost at `model`, where all its input may turn out to be of the dearest kind, and
    /// the tier no cheaper than usual.
    #[must_use]
    pub fn bound(&self, model: &str, tier: Option<&str>, usage: &Usage) -> NanoUsd {
        let Rates { input, cached_input, cache_write, cache_write_1h, output } = self.rates([model; 2], usage);
        let input = input.max(cached_input).max(cache_write).max(cache_write_1h);
        Rates { input, output, ..Rates::default() }.cost(usage, self.factor(tier).max(1_000))
    }

    fn rates(&self, models: [&str; 2], usage: &Usage) -> Rates {
        let request = [usage.input, usage.cache_read, usage.cache_write, usage.cache_write_1h];
        let request = request.into_iter().fold(0, u64::saturating_add);
        let price = models.into_iter().find_map(|model| self.model(model));
        price.map_or_else(|| self.dearest(request), |price| price.rates_for(request))
    }

    fn factor(&self, tier: Option<&str>) -> u64 {
        let factor = tier.and_then(|tier| self.tiers.iter().find(|known| known.tier == tier));
        factor.map_or(1_000, |known| known.thousandths)
    }

    /// Returns the cost of `usage` at `model` in service tier `tier`. `None` if the model has no price and
    /// [`unknown`](Self::unknown) is [`Reject`](UnknownModel::Reject).
    ///
    /// An exact name wins over a beginning, and a longer beginning over a shorter one.
    #[must_use]
    pub fn cost(&self, model: &str, tier: Option<&str>, usage: &Usage) -> Option<NanoUsd> {
        self.knows(model).then(|| self.cost_at([model; 2], tier, usage))
    }

    fn model(&self, name: &str) -> Option<&ModelPrice> {
        let matches = |price: &&ModelPrice| match price.is_exact {
            true => price.name == name,
            false => name.starts_with(&price.name),
        };
        self.models.iter().filter(matches).max_by_key(|price| (price.is_exact, price.name.len()))
    }

    /// Returns the dearest rate of each kind of token, for requests of so many tokens.
    fn dearest(&self, request: u64) -> Rates {
        self.models.iter().map(|price| price.rates_for(request)).fold(Rates::default(), |all, rates| Rates {
            input: all.input.max(rates.input),
            cached_input: all.cached_input.max(rates.cached_input),
            cache_write: all.cache_write.max(rates.cache_write),
            cache_write_1h: all.cache_write_1h.max(rates.cache_write_1h),
            output: all.output.max(rates.output),
        })
    }
}

impl ModelPrice {
    fn rates_for(&self, request: u64) -> Rates {
        self.above.filter(|(tokens, _)| request > *tokens).map_or(self.rates, |(_, rates)| rates)
    }
}

/// Returns a millionth of `number`, rounded up, or `u64::MAX` if it is more. A division of 128 bits would add 1.3 KB to
/// the wasm.
fn millionth(number: u128) -> u64 {
    const MILLION: u64 = 1_000_000;
    let Ok(high) = u64::try_from(number >> 32) else { return u64::MAX };
    let low = u64::try_from(number & u128::from(u32::MAX)).unwrap_or(u64::MAX);
    let rest = ((high % MILLION) << 32) | low;
    (high / MILLION).saturating_mul(1 << 32).saturating_add(rest.div_ceil(MILLION))
}

impl Rates {
    /// Returns the cost of `usage` times `thousandths` / 1,000, rounded up, or [`NanoUsd::MAX`] if it is more.
    fn cost(&self, usage: &Usage, thousandths: u64) -> NanoUsd {
        let parts = [
            (usage.input, self.input),
            (usage.cache_read, self.cached_input),
            (usage.cache_write, self.cache_write),
            (usage.cache_write_1h, self.cache_write_1h),
            (usage.output, self.output),
        ];
        let product = |(tokens, price): (u64, Price)| u128::from(tokens).saturating_mul(price.0.into());
        let picos = parts.into_iter().map(product).fold(0, u128::saturating_add);
        NanoUsd(millionth(picos.saturating_mul(thousandths.into())).min(NanoUsd::MAX.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rates(input: &str, cached_input: &str, output: &str) -> Rates {
        let price = |dollars| Price::parse(dollars).unwrap();
        Rates {
            input: price(input),
            cached_input: price(cached_input),
            cache_write: price(input),
            cache_write_1h: price(input),
            output: price(output),
        }
    }

    fn model(name: &str, is_exact: bool, rates: Rates, above: Option<(u64, Rates)>) -> ModelPrice {
        ModelPrice { name: name.into(), is_exact, rates, above }
    }

    fn prices() -> Prices {
        let sonnet = (200_000, rates("6", "0.6", "22.5"));
        Prices {
            models: vec![
                model("gpt-4o", false, rates("2.5", "1.25", "10"), None),
                model("gpt-4o-mini", false, rates("0.15", "0.075", "0.6"), None),
                model("gpt-4o-mini-2024", true, rates("0.3", "0.3", "0.3"), None),
                model("claude-sonnet-", false, rates("3", "0.3", "15"), Some(sonnet)),
                model("text-embedding-3-small", true, rates("0.02", "0.02", "0"), None),
            ],
            tiers: vec![TierFactor { tier: "flex".into(), thousandths: 500 }],
            unknown: UnknownModel::Reject,
        }
    }

    fn usage(input: u64, cache_read: u64, output: u64) -> Usage {
        Usage { input, cache_read, output, ..Usage::default() }
    }

    #[test]
    fn a_price_is_dollars_with_up_to_six_decimals() {
        for (dollars, micros) in [
            ("3", 3_000_000),
            ("0.075", 75_000),
            ("0.000001", 1),
            ("0", 0),
            ("00.10", 100_000),
            ("1099511.627776", 1 << 40),
        ] {
            assert_eq!(Price::parse(dollars), Some(Price(micros)), "{dollars}");
        }
        for dollars in
            ["", ".", "1.", ".5", "-1", "+1", "1e3", "0.0000001", "1,5", "1099511.627777", "99999999999999999999"]
        {
            assert_eq!(Price::parse(dollars), None, "{dollars}");
        }
    }

    #[test]
    fn a_cost_of_the_provider_is_rounded_up_to_a_billionth_of_a_dollar() {
        for (dollars, nanos) in [
            ("0", 0),
            ("0.0", 0),
            ("1", 1_000_000_000),
            ("0.00014", 140_000),
            ("1.4e-05", 14_000),
            ("1.4E-5", 14_000),
            ("12e-10", 2),
            ("0.0000000001", 1),
            ("1e-300", 1),
            ("0e300", 0),
            ("0.000000001000000000000000000000000000000000000000000001", 2),
            ("9007199.254740991", (1 << 53) - 1),
            ("9007199254740991e-9", (1 << 53) - 1),
        ] {
            assert_eq!(NanoUsd::of_dollars(dollars.as_bytes()), Some(NanoUsd(nanos)), "{dollars}");
        }
        for none in [
            "-1",
            "-0.5",
            "-1e-300",
            "1e300",
            "1e999999999999999999999",
            "9007199.254740992",
            "9007199.2547409911",
            "",
            "true",
            "NaN",
            "1.",
            ".5",
            "1e",
            "1,5",
            "0x10",
            "1e+",
            "--1",
        ] {
            assert_eq!(NanoUsd::of_dollars(none.as_bytes()), None, "{none}");
        }
        for (ticks, nanos) in [(0, Some(0)), (1, Some(1)), (10, Some(1)), (11, Some(2)), (u64::MAX, None)] {
            assert_eq!(NanoUsd::of_ticks(ticks), nanos.map(NanoUsd), "{ticks}");
        }
    }

    #[test]
    fn the_longest_name_prices_a_response() {
        let cost = |model: &str, usage| prices().cost(model, None, &usage).map(|cost| cost.0);
        assert_eq!(cost("gpt-4o-2024-08-06", usage(1_000_000, 0, 0)), Some(2_500_000_000));
        assert_eq!(cost("gpt-4o-mini", usage(1_000_000, 0, 0)), Some(150_000_000));
        assert_eq!(cost("gpt-4o-mini-2024", usage(0, 0, 1)), Some(300));
        assert_eq!(cost("gpt-4o-mini-2024-07-18", usage(0, 0, 1)), Some(600));
        assert_eq!(cost("claude-sonnet-4", usage(100, 1_000, 10)), Some(300_000 + 300_000 + 150_000));
        assert_eq!(cost("gpt-4", usage(1, 0, 0)), None);
    }

    #[test]
    fn a_price_of_the_same_name_replaces_another_and_the_longest_name_wins_among_all() {
        let set = [
            model("gpt-4o", false, rates("1", "1", "1"), None),
            model("gpt-4o", true, rates("7", "7", "7"), None),
            model("gpt-4o-mini-2024-07", false, rates("2", "2", "2"), None),
        ];
        let prices = prices().with(&set);
        assert_eq!(prices.models.len(), 7);
        let cost = |name: &str| prices.cost(name, None, &usage(1_000_000, 0, 0)).map(|cost| cost.0 / 1_000_000);
        for (name, dollars) in [
            ("gpt-4o", 7_000),
            ("gpt-4o-2024-08-06", 1_000),
            ("gpt-4o-mini", 150),
            ("gpt-4o-mini-2024-07-18", 2_000),
            ("gpt-4o-mini-2024", 300),
        ] {
            assert_eq!(cost(name), Some(dollars), "{name}");
        }
    }

    #[test]
    fn a_small_response_costs_something_and_is_rounded_once() {
        let cost = |usage| prices().cost("text-embedding-3-small", None, &usage).map(|cost| cost.0);
        assert_eq!(cost(usage(20, 0, 0)), Some(400));
        let odd = Rates { input: Price(1), output: Price(1), ..Rates::default() };
        assert_eq!(odd.cost(&usage(1, 0, 1), 1_000), NanoUsd(1));
        assert_eq!(odd.cost(&usage(500, 0, 501), 1_000), NanoUsd(2));
        assert_eq!(odd.cost(&usage(0, 0, 0), 1_000), NanoUsd(0));
    }

    #[test]
    fn a_long_context_and_a_tier_have_prices_of_their_own() {
        let cost = |tier, usage| prices().cost("claude-sonnet-4", tier, &usage).map(|cost| cost.0);
        assert_eq!(cost(None, usage(200_000, 0, 1)), Some(600_015_000));
        assert_eq!(cost(None, usage(1, 200_000, 1)), Some(6_000 + 120_000_000 + 22_500));
        assert_eq!(cost(Some("flex"), usage(200_000, 0, 1)), Some(300_007_500));
        assert_eq!(cost(Some("standard"), usage(200_000, 0, 1)), Some(600_015_000));
    }

    #[test]
    fn an_unknown_model_costs_what_the_dearest_does() {
        let prices = Prices { unknown: UnknownModel::Dearest, ..prices() };
        assert_eq!(prices.cost("o9", None, &usage(1, 0, 1)), Some(NanoUsd(3_000 + 15_000)));
        assert_eq!(prices.cost("o9", None, &usage(200_001, 0, 0)), Some(NanoUsd(1_200_006_000)));
        assert_eq!(Prices { models: Vec::new(), ..prices }.cost("o9", None, &usage(1, 0, 1)), Some(NanoUsd(0)));
    }

    proptest! {
        #[test]
        fn no_response_costs_less_than_a_part_of_it(
            input in any::<u64>(), cache_read in any::<u64>(), output in any::<u64>(), more in any::<u64>()
        ) {
            let (less, more) = (usage(input, cache_read, output), usage(input, cache_read, output.saturating_add(more)));
            let cost = |usage| prices().cost("gpt-4o", None, usage);
            prop_assert!(cost(&less) <= cost(&more) && cost(&more) <= Some(NanoUsd::MAX));
        }

        #[test]
        fn a_millionth_is_that_of_a_division(number: u128, shift in 0_u32..128) {
            let number = number >> shift;
            prop_assert_eq!(millionth(number), u64::try_from(number.div_ceil(1_000_000)).unwrap_or(u64::MAX));
        }
    }
}
