//! "Did you mean": finds the nearest of some names.

/// The candidate that a typo most likely stands for, if one is near enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = fold(word);
    let limit = (plain.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&plain, &fold(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, candidate)| (*distance, candidate.len()))
        .map(|(_, candidate)| candidate)
}

/// Ignores case, `_` and `-`: `partition_by` means `partitionBy`.
fn fold(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).take(64).collect()
}

/// The edit distance of two words, counting a swap of neighbours as one edit.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let width = b.len() + 1;
    let mut table = vec![0usize; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            let at = i * width + j;
            table[at] = if i == 0 {
                j
            } else if j == 0 {
                i
            } else {
                let cost = usize::from(a[i - 1] != b[j - 1]);
                let mut best = (table[at - width] + 1).min(table[at - 1] + 1).min(table[at - width - 1] + cost);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(table[at - 2 * width - 2] + 1);
                }
                best
            };
        }
    }
    table[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn typos_find_their_word_and_strangers_find_none() {
        let fields = ["workers", "minWorkers", "maxWorkers", "memory", "partitionBy", "env", "envFrom"];
        for (typo, meant) in [
            ("worker", Some("workers")),
            ("wrokers", Some("workers")),
            ("min_workers", Some("minWorkers")),
            ("partition_by", Some("partitionBy")),
            ("Memory", Some("memory")),
            ("enf", Some("env")),
            ("replicas", None),
            ("", None),
        ] {
            assert_eq!(nearest(typo, fields), meant, "{typo}");
        }
    }
}
