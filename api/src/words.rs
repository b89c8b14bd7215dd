//! Words of messages that several programs write.

/// `1 query`, `2 queries`.
pub fn counted(n: impl Into<u64>, one: &str, many: &str) -> String {
    let n: u64 = n.into();
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        let said: Vec<String> = (0..3u32).map(|n| counted(n, "query", "queries")).collect();
        assert_eq!(said, ["0 queries", "1 query", "2 queries"]);
    }
}
