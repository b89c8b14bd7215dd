//! Formats numbers for people.

use std::time::Duration;

/// `1234567` -> `1,234,567`
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1234567` -> `1.2M`
pub fn short_count(n: u64) -> String {
    scaled(n, &["", "k", "M", "G", "T"])
}

/// `1234567` -> `1.2 MB`
pub fn bytes(n: u64) -> String {
    scaled(n, &[" B", " kB", " MB", " GB", " TB", " PB"])
}

fn scaled(n: u64, units: &[&str]) -> String {
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{n}{}", units[0])
    } else if value < 9.95 {
        format!("{value:.1}{}", units[unit])
    } else {
        format!("{value:.0}{}", units[unit])
    }
}

/// `1.34 s`, `350 ms`, `2m 05s`
pub fn duration(d: Duration) -> String {
    let ms = d.as_millis();
    if ms < 1000 {
        format!("{ms} ms")
    } else if ms < 60_000 {
        format!("{:.2} s", d.as_secs_f64())
    } else if ms < 3_600_000 {
        format!("{}m {:02}s", d.as_secs() / 60, d.as_secs() % 60)
    } else {
        format!("{}h {:02}m", d.as_secs() / 3600, d.as_secs() / 60 % 60)
    }
}

/// `1 file`, `2 files`
pub fn plural(n: impl Into<u64>, one: &str) -> String {
    let n = n.into();
    let s = if n == 1 { "" } else { "s" };
    format!("{} {one}{s}", count(n))
}

/// Formats a local path as the user would write it: relative if it is below the working directory.
pub fn path(uri: &str) -> String {
    let below = std::env::current_dir().ok().and_then(|dir| {
        let rest = uri.strip_prefix("file://").unwrap_or(uri).strip_prefix(dir.to_str()?)?;
        rest.strip_prefix('/').filter(|rest| !rest.is_empty()).map(str::to_owned)
    });
    below.unwrap_or_else(|| uri.to_owned())
}

/// Formats rows of cells as lines with aligned columns.
pub fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> =
        (0..columns).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(1234567), "1,234,567");
        assert_eq!(short_count(999), "999");
        assert_eq!(short_count(1234567), "1.2M");
        assert_eq!(bytes(999_999), "1.0 MB");
        assert_eq!(bytes(u64::MAX), "18447 PB");
        assert_eq!(duration(Duration::from_millis(350)), "350 ms");
        assert_eq!(duration(Duration::from_millis(1_340)), "1.34 s");
        assert_eq!(duration(Duration::from_secs(125)), "2m 05s");
        assert_eq!(path("s3://b/out/"), "s3://b/out/");
        let below = std::env::current_dir().unwrap().join("out/q/");
        assert_eq!(path(below.to_str().unwrap()), "out/q/");
        assert_eq!(path("/out/q/"), "/out/q/");
        assert_eq!(plural(1u32, "file"), "1 file");
        assert_eq!(plural(2000u64, "row"), "2,000 rows");
    }
}
