//! Differences in words: cells, rows and values, cut to what a line of a report can hold.

use std::fmt::Write as _;

use polars::prelude::{AnyValue, DataFrame};

use super::compare::same_value;

pub(super) fn describe_cell(left: &DataFrame, right: &DataFrame, at: usize) -> String {
    for (l, r) in left.columns().iter().zip(right.columns()) {
        let (Ok(a), Ok(b)) = (l.get(at), r.get(at)) else { continue };
        if !same_value(&a, &b) {
            return format!(
                "column `{}` ({}), row {at} of {}: {} in Polars, {} in Floe",
                l.name(),
                l.dtype(),
                left.height(),
                show(&a),
                show(&b)
            );
        }
    }
    format!("row {at}")
}

pub(super) fn describe_row(frame: &DataFrame, at: usize) -> String {
    let mut text = String::from("{");
    for (i, column) in frame.columns().iter().enumerate() {
        if text.len() > 300 {
            text.push_str(", …");
            break;
        }
        let value = column.get(at).map(|v| show(&v)).unwrap_or_default();
        let _ = write!(text, "{}{}: {value}", if i > 0 { ", " } else { "" }, column.name());
    }
    text.push('}');
    text
}

fn show(value: &AnyValue<'_>) -> String {
    match value {
        AnyValue::List(s) | AnyValue::Array(s, _) => {
            let items: Vec<String> = s.rechunk().iter().take(20).map(|v| show(&v)).collect();
            short(&format!("[{}{}]", items.join(", "), if s.len() > 20 { ", …" } else { "" }))
        }
        AnyValue::Float64(v) => format!("{v:?}"),
        AnyValue::Float32(v) => format!("{v:?}"),
        other => short(&format!("{other}")),
    }
}

/// Cut to what a line of a report can hold.
pub fn short(text: &str) -> String {
    const MAX_CHARS: usize = 240;
    if text.chars().count() <= MAX_CHARS {
        return text.to_string();
    }
    let mut cut: String = text.chars().take(MAX_CHARS).collect();
    cut.push('…');
    cut
}
