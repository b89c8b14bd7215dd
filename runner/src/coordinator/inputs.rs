//! What each task of a resolved stage reads, and the same after outputs were made again elsewhere: the cut of the
//! first resolution stays, only the places change. Pure.

use std::collections::HashMap;

use floe_wire::graph::{KeyRange, LeafInput, Location, Piece, PieceOut, StageId, TaskId, TaskOutput};

/// A stage as it was resolved.
pub struct Resolved {
    pub tasks: Vec<Vec<LeafInput>>,
    /// Where each piece came from when the stage was resolved.
    origins: HashMap<Place, Origin>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// Inline bytes by their address: clones share it, and the origin keeps it alive.
    Inline(usize, u64),
    File(String, u64),
}

struct Origin {
    task: TaskId,
    partition: u32,
    /// Keeps inline bytes at their address.
    _piece: Piece,
}

fn place(piece: &Piece) -> Place {
    match &piece.at {
        Location::Inline(bytes) => Place::Inline(bytes.as_ptr() as usize, piece.offset),
        Location::Worker { worker, path, url } => Place::File(format!("{worker} {path} {url}"), piece.offset),
        Location::Store { uri } => Place::File(uri.clone(), piece.offset),
    }
}

impl Resolved {
    pub fn new(tasks: Vec<Vec<LeafInput>>, done: &HashMap<StageId, Vec<TaskOutput>>) -> Resolved {
        let mut origins = HashMap::new();
        for (stage, outputs) in done {
            for (index, output) in outputs.iter().enumerate() {
                for out in &output.pieces {
                    let task = TaskId { stage: *stage, task: index as u32 };
                    let origin = Origin { task, partition: out.partition, _piece: out.piece.clone() };
                    origins.insert(place(&out.piece), origin);
                }
            }
        }
        Resolved { tasks, origins }
    }

    /// The leaves of a task with every piece pointed at the output that counts now.
    pub fn moved<'a>(&self, task: u32, now: impl Fn(TaskId) -> Option<&'a TaskOutput>) -> Option<Vec<LeafInput>> {
        let leaves = self.tasks.get(task as usize)?;
        leaves
            .iter()
            .map(|leaf| match leaf {
                LeafInput::Source(bytes) => Some(LeafInput::Source(bytes.clone())),
                LeafInput::Pieces { pieces, range, before } => {
                    let pieces = self.moved_pieces(pieces, range.as_ref(), &now)?;
                    Some(LeafInput::Pieces { pieces, range: range.clone(), before: *before })
                }
            })
            .collect()
    }

    fn moved_pieces<'a>(
        &self,
        pieces: &[Piece],
        range: Option<&KeyRange>,
        now: &impl Fn(TaskId) -> Option<&'a TaskOutput>,
    ) -> Option<Vec<Piece>> {
        let mut moved = Vec::with_capacity(pieces.len());
        let mut replaced: Vec<(TaskId, Option<u32>)> = Vec::new();
        for piece in pieces {
            let origin = self.origins.get(&place(piece))?;
            let output = now(origin.task)?;
            if output.pieces.iter().any(|out| out.piece == *piece) {
                moved.push(piece.clone());
                continue;
            }
            // All that the task wants of this producer comes at the place of its first piece.
            let partition = range.is_none().then_some(origin.partition);
            if replaced.contains(&(origin.task, partition)) {
                continue;
            }
            replaced.push((origin.task, partition));
            let wanted = |out: &&PieceOut| match (range, &out.bounds) {
                (Some(range), Some((first, last))) => overlaps(range, first, last),
                (Some(_), None) => true,
                (None, _) => out.partition == origin.partition,
            };
            moved.extend(output.pieces.iter().filter(wanted).map(|out| out.piece.clone()));
        }
        Some(moved)
    }
}

/// Whether a chunk with keys first..=last has rows in [from, to).
fn overlaps(range: &KeyRange, first: &[u8], last: &[u8]) -> bool {
    range.from.as_deref().is_none_or(|from| last >= from) && range.to.as_deref().is_none_or(|to| first < to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn out(partition: u32, at: Location, offset: u64, bounds: Option<(&'static str, &'static str)>) -> PieceOut {
        let bounds = bounds.map(|(first, last)| (Bytes::from_static(first.as_bytes()), Bytes::from(last)));
        PieceOut { partition, piece: Piece { at, offset, len: 10, rows: 1 }, bounds }
    }

    fn file(name: &str) -> Location {
        Location::Worker { worker: "w".into(), path: name.into(), url: String::new() }
    }

    fn output(pieces: Vec<PieceOut>) -> TaskOutput {
        TaskOutput { pieces, ..TaskOutput::default() }
    }

    fn task(task: u32) -> TaskId {
        TaskId { stage: StageId(0), task }
    }

    #[test]
    fn hash_partitions_follow_their_producer_in_place() {
        let first = output(vec![out(0, file("a"), 0, None), out(1, file("a"), 10, None)]);
        let second = output(vec![out(0, file("b"), 0, None), out(1, file("b"), 10, None)]);
        let read = vec![first.pieces[1].piece.clone(), second.pieces[1].piece.clone()];
        let leaves = vec![LeafInput::Pieces { pieces: read, range: None, before: 7 }];
        let done = HashMap::from([(StageId(0), vec![first.clone(), second])]);
        let resolved = Resolved::new(vec![leaves], &done);
        let again = output(vec![out(0, file("c"), 0, None), out(1, file("c"), 20, None)]);
        let moved = resolved.moved(0, |id| Some(if id == task(0) { &first } else { &again })).unwrap();
        let LeafInput::Pieces { pieces, before: 7, .. } = &moved[0] else { panic!("{moved:?}") };
        assert_eq!(pieces, &[first.pieces[1].piece.clone(), again.pieces[1].piece.clone()]);
        assert!(resolved.moved(0, |_| None).is_none(), "an output that is not there cannot be read");
    }

    #[test]
    fn ranges_take_the_chunks_that_overlap() {
        let inline = |text: &'static str| Location::Inline(Bytes::copy_from_slice(text.as_bytes()));
        let old = output(vec![out(0, inline("x"), 0, Some(("a", "f"))), out(0, inline("y"), 0, Some(("g", "m")))]);
        let range = KeyRange { key: "k".into(), from: Some(Bytes::from("e")), to: Some(Bytes::from("h")) };
        let read = old.pieces.iter().map(|out| out.piece.clone()).collect();
        let leaves = vec![LeafInput::Pieces { pieces: read, range: Some(range), before: 0 }];
        let resolved = Resolved::new(vec![leaves], &HashMap::from([(StageId(0), vec![old])]));
        let again = output(vec![
            out(0, file("c"), 0, Some(("a", "d"))),
            out(0, file("c"), 10, Some(("e", "e"))),
            out(0, file("c"), 20, Some(("g", "h"))),
            out(0, file("c"), 30, Some(("h", "m"))),
        ]);
        let moved = resolved.moved(0, |_| Some(&again)).unwrap();
        let LeafInput::Pieces { pieces, .. } = &moved[0] else { panic!("{moved:?}") };
        assert_eq!(pieces.iter().map(|piece| piece.offset).collect::<Vec<_>>(), [10, 20]);
    }
}
