//! What `floe run` does around the coordinator's process: its events told, its end understood, nothing left behind.
//! The coordinator here is a shell script, so that it can be made to do what a sound one never would.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const QUERY: &str = "
apiVersion: floe.dev/v1alpha1
kind: DistributedQuery
metadata: {name: q}
spec:
  plan: {python: {script: 'result = scan(\"t\")'}}
  tables: {t: {uri: t.parquet}}
  storage: {options: {aws_secret_access_key: hunter2}}
  compute: {workers: 3, env: [{name: EXTRA, value: here}]}
";

const DONE: &str = r#"echo '{"type":"done","outcome":{"rows":12345,"bytesWritten":1000,"bytesShuffled":2000,"durationMs":1500,"sinkUri":"out/q/","files":1,"stages":[{},{}]}}'"#;

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    /// A directory with the query and a runner that does what the script says. `$SCRATCH`, `$JOB` and `$WORKERS` are
    /// what the runner was given; `note` writes a line that the test reads.
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let notes = dir.path().join("notes").display().to_string();
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = setup ] && exit 0\nnote() {{ echo \"$*\" >> {notes}; }}\nnote args $*\n[ \"$1\" = coordinator ] || exit 9\n\
             JOB=$3 WORKERS=$5 SCRATCH=$9\nnote scratch $SCRATCH\n{script}\n"
        );
        let runner = dir.path().join("runner");
        std::fs::write(&runner, text).unwrap();
        std::fs::set_permissions(&runner, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(dir.path().join("q.yaml"), QUERY).unwrap();
        Bench { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_floe"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("FLOE_RUNNER", self.path("runner"))
            .env("FLOE_SCRATCH", self.path("scratch"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        finish(self.command(args).spawn().unwrap())
    }

    /// Starts, and waits until the runner has noted a word.
    fn start(&self, word: &str) -> Child {
        let child = self.command(&["run", "q.yaml"]).spawn().unwrap();
        self.wait_for(word);
        child
    }

    fn wait_for(&self, word: &str) {
        let since = Instant::now();
        while !self.notes().lines().any(|line| line.starts_with(word)) {
            assert!(since.elapsed() < Duration::from_secs(20), "never noted {word}: {}", self.notes());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn notes(&self) -> String {
        std::fs::read_to_string(self.path("notes")).unwrap_or_default()
    }

    fn noted(&self, word: &str) -> String {
        let notes = self.notes();
        let line =
            notes.lines().find_map(|line| line.strip_prefix(word)).unwrap_or_else(|| panic!("no {word} in {notes}"));
        line.trim().to_owned()
    }

    fn assert_nothing_left(&self) {
        let left: Vec<_> = std::fs::read_dir(self.path("scratch")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Waits for the end, for at most 30 s.
fn finish(mut child: Child) -> (i32, String, String) {
    let since = Instant::now();
    let mut stdout = child.stdout.take().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        text
    });
    let output = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        text
    });
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if since.elapsed() > Duration::from_secs(30) {
            child.kill().unwrap();
            panic!("floe did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    (status.code().unwrap_or(-1), output.join().unwrap(), errors.join().unwrap())
}

fn signal(child: &Child, name: &str) {
    let done = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().unwrap();
    assert!(done.success());
}

fn is_alive(pid: &str) -> bool {
    // A process that has ended but is not reaped yet counts as gone.
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn assert_gone(pid: &str) {
    let since = Instant::now();
    while is_alive(pid) {
        assert!(since.elapsed() < Duration::from_secs(5), "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_run_tells_its_stages_and_its_summary() {
    let bench = Bench::new(&format!(
        r#"note mode $(stat -c %a $JOB) $(stat -c %a $SCRATCH)
        note extra $EXTRA
        note token ${{#FLOE_TOKEN}}
        grep -q hunter2 $JOB && note job has the secret
        echo '{{"type":"planned","stages":[{{"id":0,"label":"scan t","tasks":2}}]}}'
        echo '{{"type":"stage","id":0,"state":"running","tasksDone":0,"tasksTotal":2}}'
        echo '{{"type":"stage","id":0,"state":"done","tasksDone":2,"tasksTotal":2,"rows":5,"bytes":6,"elapsedMs":7}}'
        sleep 0.3; [ -e $JOB ] || note job file gone
        {DONE}"#
    ));
    let (code, stdout, stderr) = bench.run(&["run", "q.yaml"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(
        stdout,
        "q: 12,345 rows in 1.50 s\n  written to  out/q/ (1 file, 1.0 kB)\n  shuffled    2.0 kB over 2 stages\n"
    );
    assert_eq!(
        stderr,
        "q: starting with 3 workers\nplanned 1 stage\nstage 0 running: scan t (2 tasks)\nstage 0 done: scan t (2 tasks, 5 rows, 6 B, 7 ms)\n"
    );
    assert_eq!(bench.noted("mode"), "600 700");
    assert_eq!(bench.noted("extra"), "here");
    assert_eq!(bench.noted("token"), "64");
    assert_eq!(bench.noted("job has"), "the secret");
    assert_eq!(bench.noted("job file"), "gone");
    let args = bench.noted("args");
    assert!(args.contains("--local-workers 3 --events stdout --scratch"), "{args}");
    bench.assert_nothing_left();
}

#[test]
fn output_is_json_or_the_table_alone_when_asked_for() {
    let bench = Bench::new(
        r#"echo '{"type":"done","outcome":{"rows":1,"durationMs":5,"table":"shape: (1, 1)","stages":[],"fellBack":"small"}}'"#,
    );
    let (code, stdout, stderr) = bench.run(&["run", "q.yaml", "--quiet"]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "shape: (1, 1)\n", ""));
    let (code, stdout, stderr) = bench.run(&["run", "q.yaml", "--output", "json"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["name"], "q");
    assert_eq!(json["outcome"]["fellBack"], "small");
}

#[test]
fn a_failure_has_its_message_and_its_category_as_exit_code() {
    for (category, expected) in
        [("user", 2), ("io", 3), ("lost-worker", 4), ("out-of-memory", 5), ("deadline", 6), ("internal", 70)]
    {
        let bench = Bench::new(&format!(
            r#"echo '{{"type":"error","category":"{category}","class":"ColumnNotFoundError","message":"no a"}}'; exit 1"#
        ));
        let (code, stdout, stderr) = bench.run(&["run", "q.yaml"]);
        assert_eq!((code, stdout.as_str()), (expected, ""));
        assert!(stderr.contains("error: q: ColumnNotFoundError: no a\n"), "{stderr}");
        bench.assert_nothing_left();
    }
}

#[test]
fn a_coordinator_that_dies_takes_its_workers_and_files_with_it() {
    let bench =
        Bench::new("sleep 60 & note worker $!\necho half > $SCRATCH/shuffle\necho boom >&2\nsleep 0.2\nkill -9 $$");
    let (code, _, stderr) = bench.run(&["run", "q.yaml"]);
    assert_eq!(code, 70);
    assert!(
        stderr.contains("q: CoordinatorLost: the coordinator ended (signal: 9 (SIGKILL)) without an outcome"),
        "{stderr}"
    );
    assert!(stderr.contains("boom"), "{stderr}");
    assert_gone(&bench.noted("worker"));
    bench.assert_nothing_left();
}

#[test]
fn ctrl_c_asks_the_coordinator_to_end() {
    for name in ["INT", "TERM", "HUP"] {
        let bench = Bench::new("trap 'note asked; exit 130' TERM\nnote ready\nwhile :; do sleep 0.05; done");
        let child = bench.start("ready");
        signal(&child, name);
        let (code, _, stderr) = finish(child);
        assert_eq!(code, 130, "{stderr}");
        assert!(bench.notes().contains("asked"));
        bench.assert_nothing_left();
    }
}

#[test]
fn a_second_ctrl_c_kills() {
    let bench = Bench::new("trap '' TERM\nsleep 60 & note worker $!\nnote ready\nwhile :; do sleep 0.05; done");
    let child = bench.start("ready");
    let since = Instant::now();
    signal(&child, "INT");
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "INT");
    let (code, _, _) = finish(child);
    assert_eq!(code, 130);
    assert!(since.elapsed() < Duration::from_secs(8));
    assert_gone(&bench.noted("worker"));
    bench.assert_nothing_left();
}

#[test]
fn a_query_that_was_done_before_the_signal_is_done() {
    let bench = Bench::new(&format!(
        "finish() {{\n{DONE}\nexit 0\n}}\ntrap finish TERM\nnote ready\nwhile :; do sleep 0.05; done"
    ));
    let child = bench.start("ready");
    signal(&child, "INT");
    let (code, stdout, _) = finish(child);
    assert_eq!(code, 0);
    assert!(stdout.contains("12,345 rows"));
}

#[test]
fn a_coordinator_learns_that_nobody_waits_any_more() {
    let bench = Bench::new("[ -e $0.again ] && exit 1\n: > $0.again\nnote ready\ncat > /dev/null\nnote closed");
    let mut child = bench.start("ready");
    child.kill().unwrap();
    child.wait().unwrap();
    bench.wait_for("closed");
    // What the killed run could not remove, the next one does.
    let left = || std::fs::read_dir(bench.path("scratch")).unwrap().count();
    assert_eq!(left(), 1);
    bench.run(&["run", "q.yaml"]);
    assert_eq!(left(), 0);
}

#[test]
fn queries_run_in_turn_and_stop_at_a_failure_unless_told_otherwise() {
    let script = format!(
        r#"grep -q '"name":"bad"' $JOB && {{ echo '{{"type":"error","category":"io","class":"C","message":"m"}}'; exit 3; }}
        {DONE}"#
    );
    let bench = Bench::new(&script);
    std::fs::write(bench.path("bad.yaml"), QUERY.replace("name: q}", "name: bad}")).unwrap();
    let (code, stdout, _) = bench.run(&["run", "bad.yaml", "q.yaml"]);
    assert_eq!((code, stdout.as_str()), (3, ""));
    let (code, stdout, _) = bench.run(&["run", "bad.yaml", "q.yaml", "--keep-going"]);
    assert_eq!(code, 3);
    assert!(stdout.starts_with("q: 12,345 rows"));
}

#[test]
fn a_broken_spec_starts_nothing() {
    let bench = Bench::new("note started");
    std::fs::write(bench.path("bad.yaml"), QUERY.replace("workers: 3", "worker: 3")).unwrap();
    let (code, stdout, stderr) = bench.run(&["run", "q.yaml", "bad.yaml"]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert_eq!(
        stderr,
        "error: bad.yaml is not a valid query\n  spec.compute.worker: unknown field, did you mean \"workers\"?\n"
    );
    assert_eq!(bench.notes(), "");
    let (code, stdout, _) = bench.run(&["validate", "q.yaml", "bad.yaml"]);
    assert_eq!((code, stdout.as_str()), (2, "q.yaml: ok\n"));
    let (code, _, stderr) = bench.run(&["run", "missing.yaml"]);
    assert_eq!(code, 2);
    assert!(stderr.starts_with("error: cannot read missing.yaml: No such file"), "{stderr}");
}

#[test]
fn a_runner_that_is_not_there_is_told() {
    let bench = Bench::new("");
    let output: Output = bench.command(&["run", "q.yaml"]).env("FLOE_RUNNER", "/nowhere/floe-runner").output().unwrap();
    assert_eq!(output.status.code(), Some(70));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        stderr,
        "error: floe-runner is not where floe looks for it: FLOE_RUNNER names /nowhere/floe-runner, which is no file\n"
    );
}

#[test]
fn a_reader_that_leaves_is_no_panic() {
    let bench = Bench::new("");
    let mut child = bench.command(&["crd"]).spawn().unwrap();
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}
