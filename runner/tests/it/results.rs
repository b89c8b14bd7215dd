//! Results without a sink: where they are kept, and that they outlive the workers that made them.

use floe_api::execution::Mode;
use floe_runner::coordinator::{Engine, Remember};

use crate::support::*;

/// The coordinator copies a result into memory, or into a file, up to its limits; a larger one stays on the workers.
#[test]
fn results_move_to_the_coordinator_within_its_limits() {
    let data = tempfile::tempdir().unwrap();
    let plan = scan(&parquet(&data.path().join("data"), 4, 100_000, 10));
    let want = plan.clone().collect().unwrap();
    for (memory_bytes, disk_bytes, needs_workers) in
        [(1 << 30, 0, false), (0, 1 << 30, false), (0, 64, true), (0, 0, true)]
    {
        let dir = tempfile::tempdir().unwrap();
        let place = tempfile::tempdir().unwrap();
        let mut options = options(2, dir.path());
        options.remember = Remember { here_bytes: memory_bytes, ..Remember::default() };
        options.result_disk = (disk_bytes > 0).then(|| (place.path().to_owned(), disk_bytes));
        runtime().block_on(async {
            let engine = Engine::start(options).await.unwrap();
            let outcome = run(&engine, job("kept", &plan, Mode::Distributed)).await.unwrap();
            let case = format!("{memory_bytes} bytes in memory, {disk_bytes} on disk");
            assert_eq!(outcome.result.as_ref().unwrap().needs_workers(), needs_workers, "{case}");
            if !needs_workers {
                // Killed workers are replaced, and their outputs are lost.
                for pid in engine.worker_processes().into_values() {
                    kill(pid, libc::SIGKILL);
                }
            }
            assert!(frame(&outcome).await.equals_missing(&want), "{case}");
            assert!(files_below(place.path()).is_empty(), "{case}: the file has no name that could be left");
            stop(engine).await;
        });
    }
}
