//! What is submitted and what works on it: as little as a real row can be.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::RawJson;
use crate::processor::{BatchProcessor, QueryCx, RowCx, RowFailure, SlowQueryProcessor};

pub(super) const APP: &str = "bench";
pub(super) const OP: &str = "post";

/// The columns of [`csv`](fn@csv).
pub(super) const HEADER: &str = "account,amount,type,ref\n";

/// The input of row `i`: about 90 bytes of JSON.
pub(super) fn json(i: u64) -> String {
    let mut text = String::with_capacity(96);
    text.push_str("{\"account\":\"ACC");
    digits(&mut text, i % 1_000_000, 6);
    text.push_str("\",\"amount\":\"");
    amount(&mut text, i);
    text.push_str("\",\"type\":\"");
    text.push_str(kind(i));
    text.push_str("\",\"ref\":\"REF-");
    reference(&mut text, i);
    text.push_str("\"}");
    text
}

/// The same row as a CSV's record.
pub(super) fn csv(text: &mut String, i: u64) {
    text.push_str("ACC");
    digits(text, i % 1_000_000, 6);
    text.push(',');
    amount(text, i);
    text.push(',');
    text.push_str(kind(i));
    text.push_str(",REF-");
    reference(text, i);
    text.push('\n');
}

fn amount(text: &mut String, i: u64) {
    digits(text, i.wrapping_mul(7919) % 10_000, 1);
    text.push('.');
    digits(text, i % 100, 2);
}

fn kind(i: u64) -> &'static str {
    if i.is_multiple_of(2) {
        "credit"
    } else {
        "debit"
    }
}

fn reference(text: &mut String, i: u64) {
    let value = i.wrapping_mul(2_654_435_761) % (1 << 48);
    for nibble in (0..12).rev() {
        let digit = u32::try_from(value >> (4 * nibble) & 15).unwrap_or(0);
        text.push(char::from_digit(digit, 16).unwrap_or('0'));
    }
}

/// Decimal digits with leading zeros; `format!` would cost more than the row's whole way.
fn digits(text: &mut String, value: u64, least: u32) {
    let mut scale = 10_u64.pow(least - 1);
    while value / scale >= 10 {
        scale *= 10;
    }
    while scale > 0 {
        let digit = u32::try_from(value / scale % 10).unwrap_or(0);
        text.push(char::from_digit(digit, 10).unwrap_or('0'));
        scale /= 10;
    }
}

/// A row's input as it is submitted.
pub(super) fn input(i: u64) -> Box<RawJson> {
    // It is JSON by its making; what cannot be shows in the counts.
    RawValue::from_string(json(i)).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// A row as the processor meets it.
#[derive(Deserialize)]
pub(super) struct Input<'a> {
    #[serde(borrow)]
    pub(super) account: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) amount: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow, rename = "ref")]
    pub(super) reference: Cow<'a, str>,
}

/// The same with texts of its own, as a typed processor has them.
#[derive(Deserialize)]
pub(super) struct Posting {
    account: String,
    amount: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "ref")]
    reference: String,
}

/// What becomes of it.
#[derive(Serialize)]
pub(super) struct Output<'a> {
    pub(super) balance: Cow<'a, str>,
}

impl Posting {
    fn post(self) -> Result<Output<'static>, RowFailure> {
        if self.account.is_empty() || self.kind.is_empty() || self.reference.is_empty() {
            return Err(RowFailure::Error("a field is empty".into()));
        }
        Ok(Output {
            balance: self.amount.into(),
        })
    }
}

/// Parses the row and returns a small result.
pub(super) struct Post;

impl BatchProcessor for Post {
    type Block = ();
    type Context = ();
    type Input = Posting;
    type Output = Output<'static>;

    async fn process(
        &self,
        _: &mut RowCx<'_, (), ()>,
        input: Posting,
    ) -> Result<Output<'static>, RowFailure> {
        input.post()
    }
}

impl SlowQueryProcessor for Post {
    type Block = ();
    type Context = ();
    type Input = Posting;
    type Output = Output<'static>;

    async fn query(
        &self,
        _: &mut QueryCx<'_, (), ()>,
        input: Posting,
    ) -> Result<Output<'static>, RowFailure> {
        input.post()
    }

    fn wants_ends(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_what_they_say() {
        assert_eq!(
            json(1_000_007),
            "{\"account\":\"ACC000007\",\"amount\":\"5433.07\",\"type\":\"debit\",\"ref\":\"REF-6e3650216217\"}"
        );
        let mut text = String::new();
        csv(&mut text, 0);
        assert_eq!(text, "ACC000000,0.00,credit,REF-000000000000\n");
        let input: Input<'_> = serde_json::from_str(
            "{\"account\":\"a\",\"amount\":\"1\",\"type\":\"t\",\"ref\":\"r\"}",
        )
        .unwrap();
        assert!(matches!(input.account, Cow::Borrowed("a")));
    }
}
