//! Decides how the memory for shuffle files is shared by the queries of a worker. Pure.
//!
//! A query alone may fill the budget. Where several have files in memory, each is sure of an equal share: a query that
//! needs room within its own share gets it from those that hold more than theirs, whose files move to disk.

use floe_wire::chunk::OutputId;

/// One query's bytes in memory: files that are finished, and those that are being written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding<'a> {
    pub query: &'a str,
    pub bytes: u64,
}

/// The answer to a query that wants to write more into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    There,
    /// There is room once others have moved this many bytes to disk.
    After(u64),
    /// Its own file goes to disk.
    None,
}

/// Whether `query` may hold `more` bytes in memory.
pub(super) fn room(budget: u64, held: &[Holding<'_>], query: &str, more: u64) -> Room {
    let used: u64 = held.iter().map(|held| held.bytes).sum();
    let wanted = used.saturating_add(more);
    if wanted <= budget {
        return Room::There;
    }
    let own: u64 = held.iter().filter(|held| held.query == query).map(|held| held.bytes).sum();
    if own.saturating_add(more) <= share(budget, held, query) { Room::After(wanted - budget) } else { Room::None }
}

/// The bytes that `query` is sure of.
pub(super) fn share(budget: u64, held: &[Holding<'_>], query: &str) -> u64 {
    let others = held.iter().filter(|held| held.query != query && held.bytes > 0).count() as u64;
    budget / (others + 1)
}

/// A finished file in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub query: &'a str,
    pub output: OutputId,
    pub bytes: u64,
}

/// Which files leave memory to free `bytes`: the largest of the query that holds the most, again and again. No query
/// is brought below `keep` bytes.
pub(super) fn leaving<'a>(bytes: u64, keep: u64, held: &[Holding<'_>], files: &[Candidate<'a>]) -> Vec<Candidate<'a>> {
    let mut left: Vec<Candidate<'a>> = files.to_vec();
    left.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| (a.query, a.output).cmp(&(b.query, b.output))));
    let mut held: Vec<Holding<'_>> = held.to_vec();
    held.sort_by_key(|held| held.query);
    let (mut gone, mut freed) = (Vec::new(), 0u64);
    while freed < bytes {
        let most = held.iter_mut().filter(|held| left.iter().any(|file| file.query == held.query));
        let Some(most) = most.filter(|held| held.bytes > keep).max_by_key(|held| held.bytes) else { break };
        // Its largest file that leaves it its share; if there is none, it is over by less than a file: its smallest.
        let of = |file: &Candidate<'_>| file.query == most.query;
        let fits = |file: &Candidate<'_>| of(file) && most.bytes - file.bytes.min(most.bytes) >= keep;
        let Some(at) = left.iter().position(fits).or_else(|| left.iter().rposition(of)) else { break };
        let file = left.remove(at);
        most.bytes -= file.bytes.min(most.bytes);
        freed += file.bytes;
        gone.push(file);
    }
    gone
}

#[cfg(test)]
mod tests {
    use floe_wire::graph::{StageId, TaskId};

    use super::*;

    fn held<'a>(all: &[(&'a str, u64)]) -> Vec<Holding<'a>> {
        all.iter().map(|(query, bytes)| Holding { query: *query, bytes: *bytes }).collect()
    }

    fn file(query: &str, task: u32, bytes: u64) -> Candidate<'_> {
        Candidate { query, output: OutputId { task: TaskId { stage: StageId(0), task }, attempt: 0 }, bytes }
    }

    #[test]
    fn a_query_alone_may_fill_the_budget() {
        assert_eq!(room(100, &[], "a", 100), Room::There);
        assert_eq!(room(100, &held(&[("a", 60)]), "a", 40), Room::There);
        assert_eq!(room(100, &held(&[("a", 60)]), "a", 41), Room::None);
    }

    #[test]
    fn a_second_query_gets_half_from_the_first() {
        assert_eq!(room(100, &held(&[("a", 100)]), "b", 50), Room::After(50));
        assert_eq!(room(100, &held(&[("a", 70)]), "b", 50), Room::After(20));
        assert_eq!(room(100, &held(&[("a", 100)]), "b", 51), Room::None);
        // What others do not use is there for it without anything moving.
        assert_eq!(room(100, &held(&[("a", 10)]), "b", 90), Room::There);
    }

    #[test]
    fn shares_are_equal_and_count_only_who_holds_something() {
        assert_eq!(share(90, &held(&[("a", 80), ("b", 0), ("c", 10)]), "d"), 30);
        assert_eq!(share(90, &held(&[("a", 80), ("d", 10)]), "d"), 45);
        assert_eq!(share(90, &[], "d"), 90);
    }

    #[test]
    fn the_largest_files_of_who_holds_the_most_leave() {
        let all = held(&[("a", 60), ("b", 30), ("c", 10)]);
        let files = [file("a", 0, 20), file("a", 1, 40), file("b", 0, 30), file("c", 0, 10)];
        let gone = |bytes, keep| -> Vec<(String, u64)> {
            let gone = leaving(bytes, keep, &all, &files);
            gone.iter().map(|file| (file.query.to_string(), file.bytes)).collect()
        };
        assert_eq!(gone(1, 20), [("a".to_string(), 40)]);
        assert_eq!(gone(45, 20), [("a".to_string(), 40), ("b".to_string(), 30)]);
        // To the last, where nothing is kept; no more than there is.
        assert_eq!(gone(u64::MAX, 0).len(), 4);
        assert!(gone(0, 0).is_empty());
        // Those within their share stay.
        assert!(gone(u64::MAX, 25).iter().all(|(query, _)| query != "c"));
    }

    #[test]
    fn a_file_that_is_larger_than_what_is_over_leaves_too() {
        // Bytes in open files cannot leave.
        let all = held(&[("a", 80)]);
        let gone = leaving(10, 50, &all, &[file("a", 0, 60), file("a", 1, 15)]);
        assert_eq!(gone.iter().map(|file| file.bytes).collect::<Vec<_>>(), [15]);
        let gone = leaving(10, 50, &all, &[file("a", 0, 60)]);
        assert_eq!(gone.iter().map(|file| file.bytes).collect::<Vec<_>>(), [60]);
        assert!(leaving(10, 50, &all, &[]).is_empty());
    }
}
