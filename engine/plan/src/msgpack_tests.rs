use super::*;

fn encode(value: &rmpv::Value) -> Vec<u8> {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).unwrap();
    out
}

#[test]
fn what_is_parsed_is_written_back_the_same() {
    use rmpv::Value as V;
    let long = "x".repeat(70_000);
    let document = V::Map(vec![
        (V::from("ints"), V::Array((0..300).map(V::from).collect())),
        (V::from("bytes"), V::Array((0..=255u8).map(V::from).collect())),
        (V::from("wide"), V::Array((0..70_000).map(|i| V::from(-i)).collect())),
        (V::from("nested"), V::Map((0..20).map(|i| (V::from(i), V::Array(vec![V::Nil, V::from("a")]))).collect())),
        (V::from("floats"), V::Array(vec![V::F32(1.5), V::F64(-0.0), V::from(u64::MAX), V::from(i64::MIN)])),
        (V::from("text"), V::from(long.as_str())),
        (V::from("bin"), V::Binary(vec![7; 70_000])),
        (V::from("ext"), V::Ext(5, vec![1, 2, 3])),
        (V::from("flags"), V::Array(vec![V::from(true), V::from(false), V::Nil])),
    ]);
    let bytes = encode(&document);
    let node = parse(&bytes).unwrap();
    let mut out = Vec::new();
    node.write(&mut out);
    assert_eq!(rmpv::decode::read_value(&mut out.as_slice()).unwrap(), document);
    assert_eq!(node.get("bytes").unwrap().as_bytes().unwrap(), (0..=255u8).collect::<Vec<_>>());
    assert_eq!(node.get("bytes").unwrap().head_bytes(3).unwrap(), [0, 1, 2]);
    assert_eq!(node.get("bin").unwrap().as_bytes().unwrap(), vec![7; 70_000]);
    assert_eq!(node.get("text").unwrap().as_str(), Some(long.as_str()));
}

#[test]
fn broken_bytes_are_named_and_never_allocate_what_they_claim() {
    assert_eq!(parse(&[]).unwrap_err(), Error::Truncated(0));
    assert_eq!(parse(&[0xc1]).unwrap_err(), Error::Reserved(0));
    assert_eq!(parse(&[0xc0, 0xc0]).unwrap_err(), Error::Trailing(1));
    assert_eq!(parse(&[0xdd, 0xff, 0xff, 0xff, 0xff]).unwrap_err(), Error::Truncated(0));
    assert_eq!(parse(&[0xdf, 0xff, 0xff, 0xff, 0xff, 0xc0]).unwrap_err(), Error::Truncated(0));
    assert_eq!(parse(&[0xc6, 0xff, 0xff, 0xff, 0xff, 0xc0]).unwrap_err(), Error::Truncated(0));
    assert_eq!(parse(&[0x92, 0x01]).unwrap_err(), Error::Truncated(0));
    assert_eq!(parse(&[0x81, 0xa1]).unwrap_err(), Error::Truncated(0));
    assert_eq!(parse(&[0x81, 0xa1, 0x61]).unwrap_err(), Error::Truncated(3));
}

#[test]
fn every_prefix_of_a_document_is_refused() {
    let bytes = encode(&rmpv::Value::Map(vec![("a".into(), rmpv::Value::Array(vec![1.into(), "bc".into()]))]));
    for end in 0..bytes.len() {
        assert!(matches!(parse(&bytes[..end]), Err(Error::Truncated(_))), "prefix of {end} bytes");
    }
}

#[test]
fn nesting_is_limited() {
    let bytes = vec![0x91; MAX_DEPTH + 10];
    let error = std::thread::Builder::new()
        .stack_size(512 << 20)
        .spawn(move || parse(&bytes).map(|_| ()).unwrap_err())
        .unwrap()
        .join()
        .unwrap();
    assert!(matches!(error, Error::TooDeep | Error::Truncated(_)));
}
