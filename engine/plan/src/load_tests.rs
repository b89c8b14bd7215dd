//! Jobs of every kind, and the message of every failure. Scripts run in a real Python.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use floe_api::job::Job;
use floe_api::{DistributedQuerySpec, DslSource, Format, KeyRef, PlanSource, PythonSource, Quantity, TableSpec};
use polars_lazy::frame::LazyFrame;

use super::tests::plans_dir;
use super::*;

/// A Python with Polars: `FLOE_PYTHON`, which must work, or the environment that `tests/setup` creates.
pub(crate) fn python() -> Option<PathBuf> {
    if let Some(python) = std::env::var_os("FLOE_PYTHON") {
        return Some(python.into());
    }
    let cache = std::env::var_os("FLOE_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/floe")));
    let python = cache.map(|cache| cache.join("venv/bin/python")).filter(|python| python.exists());
    if python.is_none() {
        let why = "no Python with Polars (FLOE_PYTHON, or tests/setup): scripts are not tested";
        // Where all tests must run (tests/run), this is a failure.
        assert!(std::env::var_os("FLOE_TEST_ALL").is_none_or(|all| all != "1"), "{why}");
        eprintln!("{why}");
    }
    python
}

fn script(text: &str) -> Job {
    let source = PythonSource { script: text.into(), timeout_seconds: 60, memory: Some(Quantity::new("2Gi")) };
    let mut spec =
        DistributedQuerySpec { plan: PlanSource { python: Some(source), ..Default::default() }, ..Default::default() };
    for (name, uri, format) in [
        ("numbers", "data/numbers.parquet", None),
        ("csv", "data/numbers.csv", None),
        ("ndjson", "data/numbers.ndjson", None),
        ("ipc", "data/numbers.ipc", None),
        ("hive", "data/hive", Some(Format::Parquet)),
        ("glob", "data/num*.parquet", None),
        ("delta", "data/delta", Some(Format::Delta)),
        ("gone", "data/gone.parquet", None),
        ("far", "s3://bucket/x.parquet", None),
    ] {
        spec.tables.insert(name.into(), TableSpec { uri: uri.into(), format, ..Default::default() });
    }
    spec.params.insert("low".into(), 2.into());
    Job::new("id", "q", spec)
}

fn dsl(source: DslSource) -> Job {
    let plan = PlanSource { dsl: Some(source), ..Default::default() };
    Job::new("id", "q", DistributedQuerySpec { plan, ..Default::default() })
}

fn load_job(job: &Job) -> Result<Loaded> {
    let env = LoadEnv { base: plans_dir(), python: python().unwrap_or_else(|| "python3".into()).into() };
    load(job, &env)
}

fn rows(loaded: Loaded) -> polars_core::frame::DataFrame {
    LazyFrame::from(loaded.plan).collect().unwrap()
}

#[test]
fn bytes_come_inline_and_from_files() {
    let name = "fixtures/2.1.0/ok-join-left.bin";
    let bytes = std::fs::read(plans_dir().join(name)).unwrap();
    let mut text = STANDARD.encode(bytes);
    text.insert(100, '\n');
    let given = [
        DslSource { inline: Some(text), ..Default::default() },
        DslSource { path: Some(name.into()), ..Default::default() },
        DslSource { uri: Some(name.into()), ..Default::default() },
        DslSource { uri: Some(format!("file://{}", plans_dir().join(name).display())), ..Default::default() },
    ];
    for source in given {
        assert_eq!(rows(load_job(&dsl(source)).unwrap()).height(), 6);
    }
}

#[test]
fn jobs_without_a_plan_say_what_is_missing() {
    let key = || Some(KeyRef { name: "plans".into(), key: "q3".into() });
    let cases = [
        (
            Job::new("id", "q", DistributedQuerySpec::default()),
            "BadSpec: write exactly one of plan.dsl, plan.sql and plan.python",
        ),
        (dsl(DslSource::default()), "BadSpec: spec.plan.dsl names no bytes: give inline, uri or path"),
        (
            dsl(DslSource { inline: Some("%%".into()), ..Default::default() }),
            "BadPlan: spec.plan.dsl.inline is not base64: Invalid symbol 37, offset 0.",
        ),
        (
            dsl(DslSource { inline: Some("QUJD".into()), ..Default::default() }),
            "BadPlan: these are not the bytes of LazyFrame.serialize(): this looks like text",
        ),
        (
            dsl(DslSource { path: Some("/nowhere/x.bin".into()), ..Default::default() }),
            "FileNotFoundError: the plan /nowhere/x.bin cannot be read: no such file",
        ),
        (
            dsl(DslSource { config_map_key_ref: key(), ..Default::default() }),
            "BadSpec: spec.plan.dsl.configMapKeyRef (plans/q3) works on a cluster only: without one, give path or uri",
        ),
        (
            dsl(DslSource { secret_key_ref: key(), ..Default::default() }),
            "BadSpec: spec.plan.dsl.secretKeyRef (plans/q3) works on a cluster only: without one, give path or uri",
        ),
    ];
    for (job, message) in cases {
        let error = load_job(&job).unwrap_err();
        assert_eq!(format!("{}: {error}", error.class), message);
    }
    let relative = load_job(&dsl(DslSource { uri: Some("nowhere.bin".into()), ..Default::default() })).unwrap_err();
    assert_eq!(relative.class, "FileNotFoundError");
    assert!(relative.message.starts_with("the plan nowhere.bin ("), "{relative}");
}

#[test]
fn scripts_see_tables_and_params() {
    if python().is_none() {
        return;
    }
    let table = [
        ("result = scan('numbers').filter(pl.col('x') > params.low)", 2),
        ("result = scan('csv').filter(pl.col('x') > params['low'])", 2),
        ("result = pl.concat([scan('ndjson'), scan('ipc')])", 8),
        ("result = scan('hive').filter(pl.col('g') == 'u')", 2),
        ("result = scan('glob').collect()", 4),
        ("result = pl.scan_parquet('data/numbers.parquet')", 4),
        ("result = scan('csv', has_header=False, new_columns=['a', 'b', 'c', 'd'])", 5),
        ("import math\ndef f():\n    return scan('numbers').head(math.floor(3.5))\nresult = f()", 3),
        ("print('x' * 1000000)\nresult = scan('numbers')", 4),
        ("import os\nassert 'SECRET_OF_THE_ENGINE' not in os.environ\nresult = scan('numbers')", 4),
    ];
    for (text, height) in table {
        let loaded = load_job(&script(text)).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(rows(loaded).height(), height, "{text}");
    }
    let far = load_job(&script("result = scan('far')")).unwrap();
    assert!(format!("{:?}", far.plan).contains("s3://bucket/x.parquet"));
}

#[test]
fn scripts_that_fail_say_where() {
    if python().is_none() {
        return;
    }
    let known = "csv, delta, far, glob, gone, hive, ipc, ndjson, numbers";
    let table = [
        (
            "x = 1\nresult = scan('nope')",
            "KeyError",
            "the plan script failed\nTraceback (most recent call last):\n  File \"script.py\", line 2, in <module>\n    \
             result = scan('nope')\n"
                .into(),
        ),
        (
            "x = 1\nresult = scan('nope')",
            "KeyError",
            format!("\nKeyError: \"no table 'nope' in spec.tables (there are: {known})\""),
        ),
        ("result = params.high", "AttributeError", "no parameter 'high' in spec.params (there are: low)".into()),
        (
            "x = (",
            "SyntaxError",
            "File \"script.py\", line 1\n    x = (\n        ^\nSyntaxError: '(' was never closed".into(),
        ),
        (
            "scan('numbers')",
            "ScriptError",
            "the plan script does not assign `result` (a LazyFrame or DataFrame)".into(),
        ),
        ("q = scan('numbers')", "ScriptError", "(a LazyFrame or DataFrame); is it `q`?".into()),
        ("result = 3", "ScriptError", "`result` of the plan script is int, not a LazyFrame or DataFrame".into()),
        (
            "result = scan('numbers').group_by('g')",
            "ScriptError",
            "is LazyGroupBy, not a LazyFrame or DataFrame; call .agg(…) on it".into(),
        ),
        ("result = pl.col('x')", "ScriptError", "is Expr, not a LazyFrame or DataFrame; select it from a frame".into()),
        (
            "result = scan('delta')",
            "TableNotFound",
            "table 'delta': there is no Delta table at".into(),
        ),
        ("result = catalog.x", "NotImplementedError", "catalogs are not built yet".into()),
        ("result = scan('csv', nope=1)", "TypeError", "table 'csv': scan_csv has no option 'nope'".into()),
        (
            "result = scan('numbers').select('nope').collect()",
            "ColumnNotFoundError",
            "File \"script.py\", line 1, in <module>".into(),
        ),
        ("def f():\n    1 / 0\nf()", "ZeroDivisionError", "line 3, in <module>\n".into()),
        ("def f():\n    1 / 0\nf()", "ZeroDivisionError", "line 2, in f\n".into()),
        ("exit(3)", "ScriptError", "the plan script called exit(3) instead of assigning `result`".into()),
        (
            "import os\nos._exit(3)",
            "ScriptError",
            "the plan script's process ended with exit status: 3 and left no plan".into(),
        ),
        ("print('mark')\nimport os\nos._exit(3)", "ScriptError", "it printed last:\nmark".into()),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)", "ScriptError", "was killed by signal 15".into()),
        (
            "result = scan('numbers').pipe_with_schema(lambda lf, schema: lf)",
            "PythonInPlan",
            "does not run: a function over the plan".into(),
        ),
        (
            "b = bytearray(3 << 30)\nresult = scan('numbers')",
            "ScriptMemory",
            "more memory than its limit of 2048 MiB (spec.plan.python.memory)".into(),
        ),
        ("result = pl.select(pl.repeat(1, 1 << 29, dtype=pl.Int64))", "ScriptMemory", "2048 MiB".into()),
    ];
    for (text, class, part) in table {
        let error = load_job(&script(text)).map(|_| ()).expect_err(text);
        assert_eq!(error.class, class, "{text}: {error}");
        assert!(error.message.contains(&part), "{text}:\n{error}\nhas not\n{part}");
        assert!(!error.message.contains("script_host"), "{text}: {error}");
        assert_eq!(error.category, floe_wire::error::Category::User, "{text}");
    }
}

#[test]
fn a_timeout_kills_the_whole_process_tree() {
    if python().is_none() {
        return;
    }
    let mark = tempfile::NamedTempFile::new().unwrap();
    let path = mark.path().display();
    let mut job = script(&format!(
        "import subprocess, time\nsubprocess.Popen(['sh', '-c', 'sleep 4; echo late > {path}'])\nprint('begun', flush=True)\ntime.sleep(60)"
    ));
    job.spec.plan.python.as_mut().unwrap().timeout_seconds = 2;
    let begin = Instant::now();
    let error = load_job(&job).map(|_| ()).unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!(error.class, "ScriptTimeout");
    assert_eq!(
        error.message,
        "the plan script did not end within 2 s (spec.plan.python.timeoutSeconds): it should build the plan, not run it; \
         it printed last:\nbegun"
    );
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(std::fs::read(mark.path()).unwrap(), b"", "a child of the script lived on");
}

/// Whether a process runs `sleep` for this number of seconds; each number is used by one test only.
fn sleeps(seconds: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        line == format!("sleep\0{seconds}\0").as_bytes()
    })
}

#[test]
fn descendants_in_their_own_session_end_with_the_limit_and_with_the_script() {
    if python().is_none() {
        return;
    }
    let daemon = |seconds: &str| {
        format!("import subprocess, time\nsubprocess.Popen(['sleep', '{seconds}'], start_new_session=True)\n")
    };
    // Orphaned twice, in a session and process group of its own.
    let twice = |seconds: &str| {
        format!(
            "import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    \
             os.execvp('sleep', ['sleep', '{seconds}'])\n  os._exit(0)\ntime.sleep(0.2)\n"
        )
    };
    for (start, seconds) in [(daemon("70001"), "70001"), (twice("70002"), "70002")] {
        let mut job = script(&format!("{start}time.sleep(60)"));
        job.spec.plan.python.as_mut().unwrap().timeout_seconds = 2;
        let begin = Instant::now();
        let error = load_job(&job).map(|_| ()).unwrap_err();
        assert_eq!(error.class, "ScriptTimeout", "{error}");
        assert!(begin.elapsed() < Duration::from_secs(6), "{seconds}: it took {:?}", begin.elapsed());
        assert!(!sleeps(seconds), "{seconds} lives on after the limit");
    }
    for (start, seconds) in [(daemon("70003"), "70003"), (twice("70004"), "70004")] {
        let begin = Instant::now();
        let loaded = load_job(&script(&format!("{start}result = pl.LazyFrame({{'a': [1]}})")));
        assert_eq!(rows(loaded.unwrap()).height(), 1);
        assert!(begin.elapsed() < Duration::from_secs(20) && !sleeps(seconds), "{seconds} lives on after the script");
    }
    // The script exits without an error from Python, and all its processes end, too.
    let error = load_job(&script(&format!("{}import os\nos._exit(3)", daemon("70005")))).map(|_| ()).unwrap_err();
    assert!(error.message.contains("exit status: 3") && !sleeps("70005"), "{error}");
}

#[test]
fn limits_apply_to_the_whole_process_tree() {
    if python().is_none() {
        return;
    }
    let hold = "import subprocess, sys, time\nhold = \"x = b'x' * (120 << 20); import time; time.sleep(50)\"\n\
                for _ in range(8): subprocess.Popen([sys.executable, '-c', hold])\ntime.sleep(50)";
    let cases = [
        (
            "import subprocess, time\nfor _ in range(90): subprocess.Popen(['sleep', '50'])\ntime.sleep(50)",
            "ScriptProcesses",
        ),
        (
            "import os\nfor n in range(20): open(os.environ['TMPDIR'] + f'/{n}', 'wb').write(b'x' * (64 << 20))\nimport time\ntime.sleep(50)",
            "ScriptDisk",
        ),
        (hold, "ScriptMemory"),
        ("open('/tmp/floe-script-too-large', 'wb').truncate(600 << 20)", "OSError"),
    ];
    for (text, class) in cases {
        let mut job = script(text);
        job.spec.plan.python.as_mut().unwrap().memory = Some(Quantity::new("512Mi"));
        let begin = Instant::now();
        let error = load_job(&job).map(|_| ()).unwrap_err();
        assert_eq!(error.class, class, "{text}: {error}");
        assert!(begin.elapsed() < Duration::from_secs(30), "{text}: it took {:?}", begin.elapsed());
    }
    std::fs::remove_file("/tmp/floe-script-too-large").ok();
}

#[test]
fn a_plan_is_read_from_files_only() {
    let error =
        load_job(&dsl(DslSource { path: Some("/dev/zero".into()), ..Default::default() })).map(|_| ()).unwrap_err();
    assert!(error.message.contains("/dev/zero is no file"), "{error}");
    let uri = DslSource { uri: Some("file:///dev/zero".into()), ..Default::default() };
    assert!(load_job(&dsl(uri)).map(|_| ()).unwrap_err().message.contains("is no file"));
}

#[test]
fn a_python_that_is_not_there_is_named() {
    let env = LoadEnv { base: plans_dir(), python: "/nowhere/python".into() };
    let error = load(&script("result = 1"), &env).map(|_| ()).unwrap_err();
    assert_eq!(error.class, "ScriptEnvironment");
    assert!(error.message.starts_with("cannot start Python (/nowhere/python): No such file"), "{error}");
    // A Python without Polars: isolated mode cannot see the packages of a virtual environment.
    let env = LoadEnv { base: plans_dir(), python: "/usr/bin/python3".into() };
    if std::path::Path::new("/usr/bin/python3").exists() {
        let error = load(&script("result = 1"), &env).map(|_| ()).unwrap_err();
        assert!(["ScriptEnvironment", "ScriptError"].contains(&error.class.as_str()), "{error}");
    }
}
