//! Prints the first rows of a result as a text table; they are in memory at once.

use floe_wire::error::Result;

use super::result::ResultHandle;

/// The most rows printed as text.
pub const MOST_ROWS: u64 = 100_000;
pub const CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// Prints the first `rows` rows as Polars prints a frame, without eliding any; the engine's `POLARS_FMT_*` apply.
/// Blocks.
pub fn table(handle: &ResultHandle, rows: u64) -> Result<Vec<u8>> {
    let rows = rows.min(MOST_ROWS);
    let frame = handle.read_first(rows)?.head(Some(usize::try_from(rows).unwrap_or(usize::MAX)));
    Ok(frame.to_string().into_bytes())
}
