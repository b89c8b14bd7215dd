//! Names of runs, and tables of chunks: lookup by partition and by key, bounds of long keys, encoding.

use super::*;

fn chunk(partition: u32, offset: u64) -> Chunk {
    Chunk { partition, rows: 1, offset, len: 10 }
}

fn offsets<'a>(chunks: impl IntoIterator<Item = &'a Chunk>) -> Vec<u64> {
    chunks.into_iter().map(|chunk| chunk.offset).collect()
}

#[test]
fn runs_of_a_query_have_names_of_their_own() {
    let run = |attempt, pass, nonce| RunId { query: "q".into(), attempt, pass, nonce };
    let first = run(1, Pass::First, 7);
    assert_eq!(first.to_string(), "q-1a-0000000000000007");
    for other in [run(2, Pass::First, 7), run(1, Pass::Second, 7), run(1, Pass::First, 8)] {
        assert_ne!(first.name(), other.name());
    }
    // The number of the attempt cannot run into the query's id.
    assert_ne!(
        run(11, Pass::First, 7).to_string(),
        RunId { query: "q-1".into(), ..run(1, Pass::First, 7) }.to_string()
    );
}

#[test]
fn chunks_are_found_by_partition_in_the_order_in_which_they_were_written() {
    let chunks = Chunks::new(vec![chunk(2, 0), chunk(0, 10), chunk(2, 20), chunk(1, 30), chunk(0, 40)]);
    assert_eq!(offsets(chunks.of(0..1)), [10, 40]);
    assert_eq!(offsets(chunks.of(1..3)), [30, 0, 20]);
    assert_eq!(offsets(chunks.of(3..9)), [0u64; 0]);
    assert_eq!(chunks.bytes_by_partition().collect::<Vec<_>>(), [(0, 20), (1, 10), (2, 20)]);
    assert_eq!(chunks.bounds(0), None);
}

#[test]
fn sorted_chunks_are_found_by_their_keys() {
    let keys = [("a", "c"), ("c", "f"), ("g", "m"), ("b", "d"), ("e", "e"), ("a", "z")];
    let chunk =
        |((first, last), at): (&(&str, &str), u64)| (chunk(9, at), KeyBounds::new(first.as_bytes(), last.as_bytes()));
    let all: Vec<_> = keys.iter().zip(0..).map(chunk).collect();
    let chunks = Chunks::sorted(all);
    assert_eq!(chunks.bounds.starts, [0, 3, 5]);
    assert_eq!(chunks.bounds(3), Some((&b"b"[..], &b"d"[..])));
    let bounds = ["a", "b", "c", "d", "e", "f", "g", "m", "n"].map(str::as_bytes);
    let ends = || bounds.iter().map(|key| Some(*key)).chain([None]);
    for (from, to) in ends().flat_map(|from| ends().map(move |to| (from, to))) {
        let expected: Vec<u64> = (0..keys.len())
            .filter(|at| {
                let (first, last) = keys[*at];
                from.is_none_or(|from| last.as_bytes() >= from) && to.is_none_or(|to| first.as_bytes() < to)
            })
            .map(|at| at as u64)
            .collect();
        assert_eq!(offsets(chunks.within(from, to)), expected, "{from:?} {to:?}");
    }
}

#[test]
fn long_keys_are_cut_so_that_nothing_lies_outside() {
    let long = |fill: u8| vec![fill; 10_000];
    for key in [long(b'x'), long(0), [vec![b'k'; 200], long(0xff)].concat(), vec![b'k'; MAX_KEY_BYTES]] {
        let bounds = KeyBounds::new(&key, &key);
        assert!(bounds.first <= key && bounds.last >= key);
        assert!(bounds.first.len() <= MAX_KEY_BYTES && bounds.last.len() <= MAX_KEY_BYTES);
    }
    assert_eq!(KeyBounds::new(b"a", b"b"), KeyBounds { first: b"a".to_vec(), last: b"b".to_vec() });
    assert_eq!(KeyBounds::new(&long(0xff), &long(0xff)).last, long(0xff), "there is no greater short key");
}

#[test]
fn a_table_travels() {
    let sorted = Chunks::sorted(vec![(chunk(0, 5), KeyBounds::new(b"a", b"b"))]);
    for chunks in [Chunks::new(vec![chunk(1, 0), chunk(0, 10)]), sorted, Chunks::default()] {
        assert_eq!(crate::unpack::<Chunks>(&crate::pack(&chunks).unwrap()).unwrap(), chunks);
    }
    let many = Chunks::new((0..1000).map(|at| chunk(at, u64::from(at) * 10)).collect());
    let bytes = crate::pack(&many).unwrap().len();
    assert!(bytes < 12_000, "{bytes} bytes for 1000 chunks");
}
