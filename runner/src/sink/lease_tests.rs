//! Owners that are stopped while they give their lease up.

use std::cell::RefCell;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::*;

thread_local! {
    static STOP: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// Where an owner has said that it is done, and has not yet removed its lease.
pub(super) fn stopped() {
    if let Some(meanwhile) = STOP.take() {
        meanwhile();
    }
}

struct Server {
    child: Child,
    store: Store,
    _directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server() -> Server {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("buckets/bucket")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/s3-server.sh"))
        .arg("run")
        .arg(directory.path())
        .arg(port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let limit = Instant::now() + Duration::from_secs(900);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < limit, "the S3 server does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let options = [
        ("aws_access_key_id", "floe"),
        ("aws_secret_access_key", "floe-secret"),
        ("aws_region", "us-east-1"),
        ("aws_endpoint_url", &format!("http://127.0.0.1:{port}")),
    ];
    let store = Store::open("s3://bucket", &options.into_iter().collect()).unwrap();
    Server { child, store, _directory: directory }
}

/// Writes the lease of an attempt over whatever is there.
fn taken(store: &Store, path: &str, attempt: u32) -> (Held, Run) {
    let run = Run::new(attempt);
    let found = store.read_version(path).unwrap().map(|(_, version)| version);
    let owner = Owner::this_process(run.clone());
    let version = store.put_if(path, bytes(&owner), found.as_ref()).unwrap().unwrap();
    let state = Mutex::new(State { owner, version, lost: false, committed: false, over: false });
    (Held { store: store.clone(), path: path.to_owned(), attempt, state }, run)
}

#[test]
fn an_owner_that_was_stopped_while_it_ended_takes_no_lease_from_its_successor() {
    let server = server();
    let store = &server.store;
    // Nobody waits: it is removed.
    let (held, run) = taken(store, "a/lease", 1);
    held.release(&run).unwrap();
    assert!(store.read_version("a/lease").unwrap().is_none());

    // A successor takes it meanwhile, and keeps it.
    let (held, run) = taken(store, "b/lease", 1);
    let successor = std::rc::Rc::new(RefCell::new(None));
    let (place, its_store) = (successor.clone(), store.clone());
    STOP.set(Some(Box::new(move || *place.borrow_mut() = Some(taken(&its_store, "b/lease", 2).0))));
    held.release(&run).unwrap();
    let successor = successor.take().expect("it was stopped");
    assert!(successor.is_ours().unwrap());

    // One could be about to take it: it is left, and says that its owner is done.
    let (held, run) = taken(store, "c/lease", 1);
    STOP.set(Some(Box::new(|| std::thread::sleep(REMOVAL_LIMIT + Duration::from_millis(100)))));
    held.release(&run).unwrap();
    let (left, _) = store.read_version("c/lease").unwrap().expect("it is left");
    assert!(Owner::read(&left).unwrap().ended);
}
