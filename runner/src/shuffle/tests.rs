use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use floe_wire::error::Category;
use floe_wire::graph::{Location, Piece, StageId, TaskId};

use super::name::Producer;
use super::store::Usage;
use super::*;

fn task(stage: u32, task: u32) -> TaskId {
    TaskId { stage: StageId(stage), task }
}

fn store(dir: &Path, memory_budget_bytes: u64) -> Arc<Store> {
    Store::new(StoreOptions {
        dir: dir.join("disk"),
        memory_dir: Some(dir.join("memory")),
        memory_budget_bytes,
        disk_budget_bytes: 10 << 20,
        inline_limit_bytes: 1000,
        worker: "w0".into(),
        base_url: String::new(),
    })
}

fn write(store: &Arc<Store>, id: TaskId, bytes: &[u8], step: usize) -> Location {
    let mut writer = store.create("q", id, 0).unwrap();
    for chunk in bytes.chunks(step) {
        writer.write_all(chunk).unwrap();
    }
    assert_eq!(writer.position(), bytes.len() as u64);
    let (at, size) = writer.finish().unwrap();
    assert_eq!(size, bytes.len() as u64);
    at
}

fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 % 251) as u8).collect()
}

fn files_below(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }).sum()
}

#[test]
fn small_outputs_stay_in_the_message() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 1 << 20);
    let at = write(&store, task(0, 0), &sample(1000), 10);
    assert!(matches!(&at, Location::Inline(bytes) if bytes[..] == sample(1000)[..]));
    assert_eq!(files_below(dir.path()), 0);
    assert_eq!(store.usage(), Usage::default());
}

#[test]
fn large_outputs_start_in_memory_and_move_to_disk_past_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 2 << 20);
    let first = sample(1_500_000);
    for step in [7_777, 300_000, 1_500_000] {
        let at = write(&store, task(0, 0), &first, step);
        let Location::Worker { path, .. } = &at else { panic!("not a file: {at:?}") };
        assert!(path.contains("/memory/q/s0-t0-a0.ipc"), "{path}");
        assert_eq!(store.usage(), Usage { memory_bytes: 1_500_000, disk_bytes: 0 });
        let piece = Piece { at, offset: 64, len: 1_499_000, rows: 1 };
        assert_eq!(open_bytes(&piece, "").unwrap()[..], first[64..1_499_064]);
        let small = Piece { len: 100, ..piece };
        assert_eq!(open_bytes(&small, "").unwrap()[..], first[64..164]);
        store.release_stage("q", StageId(0));
        assert_eq!(store.usage(), Usage::default());
    }
    let second = sample(3_000_000);
    let at = write(&store, task(1, 0), &second, 7_777);
    let Location::Worker { path, .. } = &at else { panic!("not a file: {at:?}") };
    assert!(path.contains("/disk/q/s1-t0-a0.ipc"), "{path}");
    assert_eq!(store.usage(), Usage { memory_bytes: 0, disk_bytes: 3_000_000 });
    let piece = Piece { at, offset: 0, len: 3_000_000, rows: 1 };
    let held = open_bytes(&piece, "").unwrap();
    store.end_query("q");
    assert_eq!(held[..], second[..], "a mapped file outlives its name");
    assert_eq!(files_below(dir.path()), 0);
    assert_eq!(store.usage(), Usage::default());
}

#[test]
fn the_disk_budget_is_a_bound_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 0);
    let mut writer = store.create("q", task(0, 0), 0).unwrap();
    let error = (0..100).find_map(|_| writer.write_all(&sample(300_000)).err()).expect("the budget holds");
    assert!(error.to_string().contains("disk budget of 10485760 bytes"), "{error}");
    drop(writer);
    assert_eq!(files_below(dir.path()), 0);
    assert_eq!(store.usage(), Usage::default());
}

#[test]
fn a_task_that_outlives_its_query_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 1 << 20);
    store.start_query("q", "secret");
    let mut open = store.create("q", task(0, 0), 0).unwrap();
    open.write_all(&sample(500_000)).unwrap();
    let mut dropped = store.create("q", task(0, 1), 0).unwrap();
    dropped.write_all(&sample(500_000)).unwrap();
    store.end_query("q");
    assert_eq!(open.finish().unwrap_err().category, Category::Cancelled);
    drop(dropped);
    assert_eq!(store.create("q", task(0, 2), 0).err().unwrap().category, Category::Cancelled);
    assert_eq!(files_below(dir.path()), 0);
    assert!(!dir.path().join("memory/q").exists());
    assert_eq!(store.usage(), Usage::default());
}

#[test]
fn a_lost_file_is_told_with_its_producer() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 1 << 20);
    let mut writer = store.create("lost-q", task(3, 5), 2).unwrap();
    writer.write_all(&sample(2000)).unwrap();
    let (at, len) = writer.finish().unwrap();
    store.end_query("lost-q");
    let error = open_bytes(&Piece { at, offset: 0, len, rows: 1 }, "").unwrap_err();
    assert_eq!((error.category, error.class.as_str()), (Category::LostWorker, LOST_OUTPUT));
    let expected = Producer { query: "lost-q".into(), task: task(3, 5), attempt: 2, worker: "w0".into() };
    assert_eq!(take_lost("lost-q"), vec![expected]);
    assert!(take_lost("lost-q").is_empty());
}

#[test]
fn query_ids_cannot_leave_the_scratch() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 1 << 20);
    for id in ["", "..", "a/b", "../a", ".hidden"] {
        assert!(store.create(id, task(0, 0), 0).is_err(), "{id}");
    }
}

#[test]
fn ranges_are_read_as_http_says() {
    assert_eq!(serve::range("bytes=0-9", 100), Some((0, 10)));
    assert_eq!(serve::range("bytes=90-", 100), Some((90, 10)));
    assert_eq!(serve::range("bytes=-5", 100), Some((95, 5)));
    assert_eq!(serve::range("bytes=90-1000", 100), Some((90, 10)));
    for bad in ["bytes=100-", "bytes=5-4", "lines=1-2", "bytes=a-b", "bytes=0-1,4-5", ""] {
        assert_eq!(serve::range(bad, 100), None, "{bad}");
    }
    assert_eq!(serve::range("bytes=0-", 0), None);
}

/// A real server: what another host sees of this worker's scratch.
#[test]
fn other_hosts_read_ranges_over_http() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let store = Store::new(StoreOptions {
        dir: dir.path().to_path_buf(),
        inline_limit_bytes: 10,
        worker: "w7".into(),
        base_url,
        ..StoreOptions::default()
    });
    let app = router(store.clone());
    runtime.spawn(async move { axum::serve(listener, app).await });
    store.start_query("q", "secret");
    let bytes = sample(700_000);
    let Location::Worker { worker, url, .. } = write(&store, task(1, 2), &bytes, 999) else { panic!("not a file") };
    let elsewhere = Location::Worker { worker, path: "/nonexistent/s1-t2-a0.ipc".into(), url: url.clone() };
    let piece = Piece { at: elsewhere, offset: 1000, len: 600_000, rows: 1 };
    assert_eq!(open_bytes(&piece, "secret").unwrap()[..], bytes[1000..601_000]);
    assert_eq!(open_bytes(&piece, "wrong").unwrap_err().class, "TokenRefused");
    assert_eq!(open_bytes(&piece, "").unwrap_err().class, "TokenRefused");

    let head = runtime.block_on(reqwest::Client::new().head(&url).bearer_auth("secret").send()).unwrap();
    assert_eq!(head.headers()["content-length"], "700000");
    assert_eq!(head.headers()["accept-ranges"], "bytes");
    let whole = runtime.block_on(reqwest::Client::new().get(&url).bearer_auth("secret").send()).unwrap();
    assert_eq!(runtime.block_on(whole.bytes()).unwrap()[..], bytes[..]);

    store.release_stage("q", StageId(1));
    assert_eq!(open_bytes(&piece, "secret").unwrap_err().class, LOST_OUTPUT);
    drop(runtime);
    assert_eq!(open_bytes(&piece, "secret").unwrap_err().class, LOST_OUTPUT, "no server at all");
}
