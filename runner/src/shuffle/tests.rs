use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use floe_wire::chunk::{OutputId, Pass, Place, RunId, Shelf, Span, WorkerId};
use floe_wire::error::{Category, QueryError, TaskError};
use floe_wire::graph::{StageId, TaskId};

use super::store::Usage;
use super::*;

fn output(stage: u32, task: u32, attempt: u32) -> OutputId {
    OutputId { task: TaskId { stage: StageId(stage), task }, attempt }
}

fn span(offset: u64, len: u64) -> Span {
    Span { offset, len }
}

const WORKER: WorkerId = WorkerId(7);

fn store(dir: &Path, memory_budget_bytes: u64) -> Arc<Store> {
    let store = Store::new(StoreOptions {
        dir: dir.join("disk"),
        memory_dir: Some(dir.join("memory")),
        memory_budget_bytes,
        disk_budget_bytes: 10 << 20,
        inline_limit_bytes: 1000,
        base_url: String::new(),
    });
    store.set_worker(WORKER);
    store
}

/// Reads from a store like a peer of its worker.
fn reader(store: &Store, run: &str, token: &str) -> Reader {
    let peers = Arc::new(Peers::default());
    peers.insert(WORKER, store.peer());
    Reader { run: run.into(), token: token.into(), peers, by_path: true, remote: None }
}

fn write(store: &Arc<Store>, id: OutputId, bytes: &[u8], step: usize) -> Place {
    let mut writer = store.create("q", id).unwrap();
    for chunk in bytes.chunks(step) {
        writer.write_all(chunk).unwrap();
    }
    assert_eq!(writer.position(), bytes.len() as u64);
    let (place, size) = writer.finish().unwrap();
    assert_eq!(size, bytes.len() as u64);
    place
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
    let place = write(&store, output(0, 0, 0), &sample(1000), 10);
    assert!(matches!(&place, Place::Inline(bytes) if bytes[..] == sample(1000)[..]));
    assert_eq!(files_below(dir.path()), 0);
    assert_eq!(store.usage(), Usage::default());
}

#[test]
fn large_outputs_start_in_memory_and_move_to_disk_past_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 2 << 20);
    let reader = reader(&store, "q", "");
    let first = sample(1_500_000);
    for step in [7_777, 300_000, 1_500_000] {
        let id = output(0, 0, 0);
        let place = write(&store, id, &first, step);
        assert_eq!(place, Place::Worker { worker: WORKER, shelf: Shelf::Memory });
        assert!(dir.path().join("memory/q/s0-t0-a0.ipc").is_file());
        assert_eq!(store.usage(), Usage { memory_bytes: 1_500_000, disk_bytes: 0 });
        assert_eq!(reader.open(id, &place, span(64, 1_499_000)).unwrap()[..], first[64..1_499_064]);
        assert_eq!(reader.open(id, &place, span(64, 100)).unwrap()[..], first[64..164]);
        store.release_stage("q", StageId(0));
        assert_eq!(store.usage(), Usage::default());
    }
    let (id, second) = (output(1, 0, 0), sample(3_000_000));
    let place = write(&store, id, &second, 7_777);
    assert_eq!(place, Place::Worker { worker: WORKER, shelf: Shelf::Disk });
    assert!(dir.path().join("disk/q/s1-t0-a0.ipc").is_file());
    assert_eq!(store.usage(), Usage { memory_bytes: 0, disk_bytes: 3_000_000 });
    let held = reader.open(id, &place, span(0, 3_000_000)).unwrap();
    store.end_query("q");
    assert_eq!(held[..], second[..], "a mapped file outlives its name");
    assert_eq!(files_below(dir.path()), 0);
    assert_eq!(store.usage(), Usage::default());
}

#[test]
fn a_second_query_gets_its_share_of_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 2 << 20);
    let bytes = sample(900_000);
    let first: Vec<Place> = (0..2).map(|task| write(&store, output(0, task, 0), &bytes, 7_777)).collect();
    assert_eq!(store.usage(), Usage { memory_bytes: 1_800_000, disk_bytes: 0 });
    let mut writer = store.create("other", output(0, 0, 0)).unwrap();
    writer.write_all(&sample(1_000_000)).unwrap();
    let (place, _) = writer.finish().unwrap();
    assert_eq!(place, Place::Worker { worker: WORKER, shelf: Shelf::Memory });
    assert_eq!(store.usage(), Usage { memory_bytes: 1_900_000, disk_bytes: 900_000 });
    assert_eq!(store.memory_of(|query| query == "q"), 900_000);
    // What moved is read as before, and removed as before.
    let reader = reader(&store, "q", "");
    for (task, place) in first.iter().enumerate() {
        assert_eq!(reader.open(output(0, task as u32, 0), place, span(0, 900_000)).unwrap()[..], bytes[..]);
    }
    // More than half of the memory goes to the other's own disk.
    let mut writer = store.create("other", output(0, 1, 0)).unwrap();
    writer.write_all(&sample(400_000)).unwrap();
    assert_eq!(writer.finish().unwrap().0, Place::Worker { worker: WORKER, shelf: Shelf::Disk });
    store.end_query("q");
    assert_eq!(store.usage(), Usage { memory_bytes: 1_000_000, disk_bytes: 400_000 });
    store.end_query("other");
    assert_eq!(files_below(dir.path()), 0);
    assert_eq!(store.usage(), Usage::default());
}

#[test]
fn outputs_make_way_for_tasks_of_other_queries() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 4 << 20);
    let place = write(&store, output(0, 0, 0), &sample(900_000), 7_777);
    assert_eq!(store.make_way(1, |query| query != "q"), 0, "its own task runs");
    assert_eq!(store.make_way(1, |_| true), 900_000);
    assert_eq!(store.usage(), Usage { memory_bytes: 0, disk_bytes: 900_000 });
    let bytes = reader(&store, "q", "").open(output(0, 0, 0), &place, span(5, 10)).unwrap();
    assert_eq!(bytes[..], sample(900_000)[5..15]);
    assert_eq!(store.make_way(1, |_| true), 0);
    store.end_query("q");
    assert_eq!((files_below(dir.path()), store.usage()), (0, Usage::default()));
}

#[test]
fn without_room_on_disk_outputs_stay_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 20 << 20);
    write(&store, output(0, 0, 0), &sample(11 << 20), 1 << 20);
    assert_eq!(store.make_way(1, |_| true), 0);
    assert_eq!(store.usage(), Usage { memory_bytes: 11 << 20, disk_bytes: 0 });
    assert_eq!(files_below(dir.path()), 1);
}

#[test]
fn the_disk_budget_is_a_bound_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 0);
    let mut writer = store.create("q", output(0, 0, 0)).unwrap();
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
    let mut open = store.create("q", output(0, 0, 0)).unwrap();
    open.write_all(&sample(500_000)).unwrap();
    let mut dropped = store.create("q", output(0, 1, 0)).unwrap();
    dropped.write_all(&sample(500_000)).unwrap();
    store.end_query("q");
    assert_eq!(open.finish().unwrap_err().category, Category::Cancelled);
    drop(dropped);
    assert_eq!(store.create("q", output(0, 2, 0)).err().unwrap().category, Category::Cancelled);
    assert_eq!(files_below(dir.path()), 0);
    assert!(!dir.path().join("memory/q").exists());
    assert_eq!(store.usage(), Usage::default());
}

#[test]
fn a_lost_output_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 1 << 20);
    let reader = reader(&store, "q", "");
    let id = output(3, 5, 2);
    let place = write(&store, id, &sample(2000), 2000);
    assert!(reader.open(id, &place, span(0, 2000)).is_ok());
    let lost = |place: &Place| match reader.open(id, place, span(0, 2000)) {
        Err(TaskError::Lost { outputs, message }) => (outputs, message),
        other => panic!("{other:?}"),
    };
    // Another attempt's output is not found.
    let other = reader.open(output(3, 5, 1), &place, span(0, 2000)).unwrap_err();
    assert!(matches!(other, TaskError::Lost { outputs, .. } if outputs == [output(3, 5, 1)]));
    store.end_query("q");
    assert_eq!(lost(&place).0, [id]);
    let (outputs, message) = lost(&Place::Worker { worker: WorkerId(8), shelf: Shelf::Disk });
    assert_eq!(outputs, [id]);
    assert!(message.contains("s3-t5-a2") && message.contains("worker 8 has left"), "{message}");
    let error = QueryError::from(reader.open(id, &place, span(0, 2000)).unwrap_err());
    assert_eq!((error.category, error.class.as_str()), (Category::LostWorker, "LostOutput"));
}

#[test]
fn query_ids_cannot_leave_the_scratch() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 1 << 20);
    for id in ["", "..", "a/b", "../a", ".hidden"] {
        assert!(store.create(id, output(0, 0, 0)).is_err(), "{id}");
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

/// A real server: reads this worker's scratch like another host.
#[test]
fn other_hosts_read_ranges_over_http() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let store = Store::new(StoreOptions {
        dir: dir.path().to_path_buf(),
        inline_limit_bytes: 10,
        base_url,
        ..StoreOptions::default()
    });
    let app = router(store.clone());
    runtime.spawn(async move { axum::serve(listener, app).await });
    store.start_query("q", "secret");
    let bytes = sample(700_000);
    store.set_worker(WORKER);
    let id = output(1, 2, 3);
    let place = write(&store, id, &bytes, 999);
    let read = |token: &str, span: Span| {
        let elsewhere = Reader { by_path: false, ..reader(&store, "q", token) };
        elsewhere.open(id, &place, span)
    };
    assert_eq!(read("secret", span(1000, 600_000)).unwrap()[..], bytes[1000..601_000]);
    assert_eq!(read("wrong", span(0, 1)).unwrap_err().class(), "TokenRefused");
    assert_eq!(read("", span(0, 1)).unwrap_err().class(), "TokenRefused");

    let url = store.peer().url("q", id);
    let head = runtime.block_on(reqwest::Client::new().head(&url).bearer_auth("secret").send()).unwrap();
    assert_eq!(head.headers()["content-length"], "700000");
    assert_eq!(head.headers()["accept-ranges"], "bytes");
    let whole = runtime.block_on(reqwest::Client::new().get(&url).bearer_auth("secret").send()).unwrap();
    assert_eq!(runtime.block_on(whole.bytes()).unwrap()[..], bytes[..]);

    let is_lost = |error: &TaskError| matches!(error, TaskError::Lost { outputs, .. } if *outputs == [id]);
    store.release_stage("q", StageId(1));
    assert!(is_lost(&read("secret", span(0, 9)).unwrap_err()));
    drop(runtime);
    assert!(is_lost(&read("secret", span(0, 9)).unwrap_err()), "no server at all");
}

/// Runs one query twice in a shared directory, like two coordinators that do not know each other.
#[test]
fn a_late_run_removes_nothing_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let uri = dir.path().join("shared").to_str().unwrap().to_string();
    let id = output(0, 0, 0);
    let run = |attempt: u32, nonce: u64| {
        let run = RunId { query: "q".into(), attempt, pass: Pass::First, nonce };
        let remote = Arc::new(Remote::new(&uri, &run, floe_storage::Options::default()));
        let scratch = dir.path().join(run.to_string());
        let store = store(&scratch, 0);
        store.start_query("q", "");
        store.send_to("q", &remote);
        let bytes = vec![nonce as u8; 5000];
        assert_eq!(write(&store, id, &bytes, 5000), Place::Store);
        let reader = Reader { remote: Some(remote.clone()), ..reader(&store, "q", "") };
        (store, remote, reader, bytes)
    };
    let (zombie, zombies, of_zombie, old) = run(1, 1);
    let (_, remote, of_second, new) = run(2, 2);
    let (worker_of_third, thirds, of_third, newest) = run(2, 3);
    let read = |reader: &Reader| reader.open(id, &Place::Store, span(0, 5000));
    assert_eq!((read(&of_zombie).unwrap(), read(&of_second).unwrap()), (old.into(), new.clone().into()));
    zombie.release_stage("q", StageId(0));
    finish_removals(std::time::Duration::from_secs(10));
    zombie.remove_sent();
    zombies.remove_all();
    assert!(read(&of_zombie).is_err());
    assert_eq!(read(&of_second).unwrap()[..], new[..]);
    worker_of_third.remove_sent();
    assert!(read(&of_third).is_err(), "{newest:?}");
    thirds.remove_all();
    assert_eq!(read(&of_second).unwrap()[..], new[..]);
    remote.remove_all();
    assert_eq!(std::fs::read_dir(&uri).unwrap().count(), 0, "the last run leaves no directory");

    let (_, _, of_fourth, _) = run(4, 4);
    let (_, _, of_fifth, _) = run(5, 5);
    remove_query(&uri, "q", &floe_storage::Options::default());
    assert!(read(&of_fourth).is_err() && read(&of_fifth).is_err());
    assert_eq!(files_below(Path::new(&uri)), 0);
}
