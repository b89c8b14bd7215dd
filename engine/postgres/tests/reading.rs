//! Types, connections and limits, against a server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

use std::time::Duration;

use floe_postgres::{Connection, Limits, Part, Pushed, Reading, sql};
use floe_wire::error::Category;
use serde_json::json;
use server::{Server, all, described, query, read, read_part, table};
use tokio::time::{Instant, sleep};

mod server;

const TYPES: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN price AS numeric(10, 2);
    CREATE TABLE kinds (
        b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, o oid,
        n numeric(10, 2), big numeric(38, 0), free numeric, wide numeric(60, 2), p price,
        t text, v varchar(5), c char(4), nm name, e mood, j json, jb jsonb, x xml, u uuid, ip inet,
        by bytea, d date, tm time, ttz timetz, ts timestamp, tz timestamptz, iv interval, r int4range, pr pair, m money,
        ai int4[], at text[], an numeric(6, 1)[], au uuid[]
    );
    INSERT INTO kinds VALUES (
        true, -2, 4, -8, 1.5, 'NaN', 4294967295,
        -12.5, 99999999999999999999999999999999999999, 1.50, 3.25, 7,
        'grüße', 'vier', 'ab', 'nm', 'ok', '{\"a\": 1}', '{\"b\":2}', '<a/>', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '10.0.0.1/8',
        '\\x00ff', '2000-02-29', '23:59:59.999999', '12:00+02', '1969-12-31 23:59:59.999999', '2020-01-01 02:00+02',
        '1 year 2 days 3.5 seconds', '[1,5)', ROW(1, 'x'), 5,
        '{1,NULL,3}', '{}', '{1.5,-2}', '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'
    );
    INSERT INTO kinds (i4) VALUES (NULL)";

#[tokio::test(flavor = "multi_thread")]
async fn every_type_by_its_rule() {
    let server = Server::start();
    server.run(TYPES);
    let source = server.source(table("kinds"));
    let (snapshot, described) = described(&source).await;
    let rows = read(&source, &snapshot, &described, &all(&described)).await;
    let seen: Vec<String> = described
        .columns
        .iter()
        .zip(&rows[0])
        .map(|(column, value)| format!("{} {:?} {value}", column.name, column.r#type))
        .collect();
    let expected = [
        "b Bool true",
        "i2 Int16 -2",
        "i4 Int32 4",
        "i8 Int64 -8",
        "f4 Float32 1.5",
        "f8 Float64 NaN",
        "o UInt32 4294967295",
        "n Decimal { precision: 10, scale: 2 } -1250",
        "big Decimal { precision: 38, scale: 0 } 99999999999999999999999999999999999999",
        "free String 1.50",
        "wide String 3.25",
        "p Decimal { precision: 10, scale: 2 } 700",
        "t String grüße",
        "v String vier",
        "c String ab  ",
        "nm String nm",
        "e String ok",
        "j String {\"a\": 1}",
        "jb String {\"b\": 2}",
        "x String <a/>",
        "u String a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "ip String 10.0.0.1/8",
        "by Binary [00, ff]",
        "d Date 11016",
        "tm Time 86399999999000",
        "ttz String 12:00:00+02",
        "ts Datetime -1",
        "tz DatetimeUtc 1577836800000000",
        "iv String P1Y2DT3.5S",
        "r String [1,5)",
        "pr String (1,x)",
        "m String $5.00",
        "ai List(Int32) [1,null,3]",
        "at List(String) []",
        "an List(Decimal { precision: 6, scale: 1 }) [15,-20]",
        "au List(String) [a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11]",
    ];
    assert_eq!(seen, expected);
    assert!(rows[1].iter().all(|value| value == "null"), "{:?}", rows[1]);
    assert_eq!(described.columns.len(), 36);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_without_a_place_name_their_column() {
    let server = Server::start();
    for (value, expected) in [
        ("'infinity'::timestamp", "infinity"),
        ("'-infinity'::date", "infinity"),
        ("'24:00'::time", "24:00"),
        ("'NaN'::numeric(5, 2)", "NaN"),
        ("'{{1,2},{3,4}}'::int[]", "2 dimensions"),
    ] {
        let source = server.source(query(&format!("SELECT {value} AS odd")));
        let (snapshot, described) = described(&source).await;
        let error = read_part(&source, &snapshot, &described, &all(&described), &Part::Whole).await.unwrap_err();
        assert_eq!(error.category, Category::User);
        assert!(error.message.starts_with("column odd: ") && error.message.contains(expected), "{}", error.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_read_as_tables_are() {
    let server = Server::start();
    let source =
        server.source(query("SELECT g AS a, g * 2 AS \"B b\" FROM generate_series(1, 3) AS g -- all of them;"));
    let (snapshot, found) = described(&source).await;
    let rows = read(&source, &snapshot, &found, &all(&found)).await;
    assert_eq!(rows, [["1", "2"], ["2", "4"], ["3", "6"]]);
    let columns = Pushed::default();
    assert_eq!(read(&source, &snapshot, &found, &columns).await.len(), 3, "rows without columns are counted");

    for (options, expected) in [
        (query("SELECT 1 AS a, 2 AS a"), "query: gives two columns named \"a\""),
        (query("SELEC 1"), "describing the query"),
        (query("SELECT 1 AS a; DROP TABLE x"), "describing the query"),
        (query("DELETE FROM pg_class"), "describing the query"),
        (table("nowhere"), "table: nowhere is not there"),
    ] {
        let source = server.source(options);
        let mut snapshot = floe_postgres::Snapshot::export(&source).await.unwrap();
        let error = floe_postgres::describe(&mut snapshot.connection, &source.what).await.unwrap_err();
        assert_eq!(error.category, Category::User, "{}", error.message);
        assert!(error.message.starts_with(expected), "{}", error.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_bounded() {
    let server = Server::start();
    let source = server.source(query("SELECT g, repeat('x', 1000) AS t FROM generate_series(1, 5000) AS g"));
    let (snapshot, described) = described(&source).await;
    let select = sql::select(&described, &all(&described), &Part::Whole).unwrap();
    for (limits, most) in
        [(Limits { rows: 300, bytes: usize::MAX }, 300), (Limits { rows: usize::MAX, bytes: 100_000 }, 100)]
    {
        let mut reading = Reading::open(&source, Some(&snapshot.id), &select, limits).await.unwrap();
        let mut sizes = Vec::new();
        while let Some(batch) = reading.next().await.unwrap() {
            sizes.push(batch.rows);
        }
        assert_eq!(sizes.iter().sum::<usize>(), 5000);
        assert!(sizes.iter().all(|rows| *rows <= most) && sizes.len() >= 5000 / most, "{sizes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_slows_the_server_down_and_a_dropped_one_ends_it() {
    let server = Server::start();
    // More than sockets hold by far: without back-pressure the server would have finished.
    let source = server.source(query("SELECT repeat('x', 10000) AS t FROM generate_series(1, 200000)"));
    let (snapshot, found) = described(&source).await;
    let select = sql::select(&found, &all(&found), &Part::Whole).unwrap();
    let limits = Limits { rows: 10, bytes: usize::MAX };
    let mut reading = Reading::open(&source, Some(&snapshot.id), &select, limits).await.unwrap();
    assert!(reading.next().await.unwrap().is_some());
    sleep(Duration::from_secs(1)).await;
    let at_work = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT%' AND state = 'active'";
    assert_eq!(server.run(at_work), "1");
    drop(reading);
    gone(&server, at_work).await;
    drop(snapshot);

    // One that computes sends nothing, not even that it began, and would not see that nobody listens.
    let computing = server.source(query("SELECT pg_sleep(600)::text AS s"));
    let (snapshot, found) = described(&computing).await;
    let select = sql::select(&found, &all(&found), &Part::Whole).unwrap();
    let waiting = async { Reading::open(&computing, Some(&snapshot.id), &select, limits).await?.next().await };
    assert!(tokio::time::timeout(Duration::from_secs(1), waiting).await.is_err());
    gone(&server, at_work).await;
    drop(snapshot);
    gone(&server, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'floe'").await;
}

async fn gone(server: &Server, count: &str) {
    let begin = Instant::now();
    while server.run(count) != "0" {
        assert!(begin.elapsed() < Duration::from_secs(5), "still there: {count}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_as_far_as_it_is_asked_for() {
    let server = Server::start();
    let ca = server.directory.path().join("ca.crt");
    let pem = std::fs::read_to_string(&ca).unwrap();
    // Another authority, with the same name: only the signature tells.
    let other = tempfile::tempdir().unwrap();
    let key = other.path().join("key");
    let certificate = other.path().join("crt");
    let openssl = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=floe-test-ca", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(openssl.status.success());
    let other = std::fs::read_to_string(&certificate).unwrap();

    let secured = "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE s.ssl AND a.application_name = 'floe'";
    let options = || table("pg_class");
    for (parameters, roots, expected) in [
        ("?sslmode=disable", None, Ok("0")),
        ("", None, Ok("1")),
        ("?sslmode=prefer", None, Ok("1")),
        ("?sslmode=require", None, Ok("1")),
        ("?sslmode=require", Some(pem.as_str()), Ok("1")),
        ("?sslmode=require", Some(other.as_str()), Err(())),
        ("?sslmode=verify-ca", Some(pem.as_str()), Ok("1")),
        ("?sslmode=verify-ca", Some(other.as_str()), Err(())),
        ("?sslmode=verify-full", Some(ca.to_str().unwrap()), Ok("1")),
        ("?sslmode=verify-full", Some(other.as_str()), Err(())),
    ] {
        let secret: Vec<(&str, &str)> = roots.map(|roots| ("sslrootcert", roots)).into_iter().collect();
        let source = server.source_at(parameters, options(), &secret).unwrap();
        match (Connection::open(&source).await, expected) {
            (Ok(connection), Ok(expected)) => {
                assert_eq!(server.run(secured), expected, "{parameters}");
                drop(connection);
                gone(&server, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'floe'").await;
            }
            (Err(error), Err(())) => assert_eq!(error.category, Category::User, "{}", error.message),
            (Ok(_), Err(())) => panic!("{parameters}: was let in"),
            (Err(error), Ok(_)) => panic!("{parameters}: {}", error.message),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_in_the_certificate() {
    let server = Server::start();
    let ca = std::fs::read_to_string(server.directory.path().join("ca.crt")).unwrap();
    for (mode, expected) in [("verify-ca", true), ("verify-full", false)] {
        let secret = [("password", "floe-test"), ("sslrootcert", ca.as_str())];
        let secret = secret.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let uri =
            format!("postgres://floe@elsewhere.example:{}/postgres?hostaddr=127.0.0.1&sslmode={mode}", server.port);
        let options = serde_json::from_value(table("pg_class")).unwrap();
        let source = floe_postgres::Source::parse(&uri, &options, &secret).unwrap();
        let opened = Connection::open(&source).await;
        assert_eq!(opened.is_ok(), expected, "{mode}: {:?}", opened.err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_learns_why() {
    let server = Server::start();
    let source = server.source_at("", table("pg_class"), &[("password", "wrong")]).unwrap();
    let error = Connection::open(&source).await.err().unwrap();
    assert_eq!(error.category, Category::User);
    assert!(
        error.message.contains("password authentication failed") && !error.message.contains("wrong"),
        "{}",
        error.message
    );

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    let uri = format!("postgres://floe@127.0.0.1:{port}/postgres?connect_timeout=1");
    let options = serde_json::from_value(json!({"table": "t"})).unwrap();
    let source = floe_postgres::Source::parse(&uri, &options, &Default::default()).unwrap();
    // It accepts, and then says nothing.
    let begin = Instant::now();
    let error = Connection::open(&source).await.err().unwrap();
    assert_eq!(error.category, Category::Io, "{}", error.message);
    assert!(begin.elapsed() < Duration::from_secs(5));
    drop(nobody);
    let error = Connection::open(&source).await.err().unwrap();
    assert_eq!(error.category, Category::Io, "{}", error.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_is_waited_for() {
    let server = Server::start();
    server.run("CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 1");
    let source = server.source_at("", table("pg_class"), &[("user", "few"), ("password", "few")]).unwrap();
    let first = Connection::open(&source).await.unwrap();
    let second = tokio::spawn({
        let source = source.clone();
        async move { Connection::open(&source).await.map(drop) }
    });
    sleep(Duration::from_millis(700)).await;
    assert!(!second.is_finished());
    drop(first);
    second.await.unwrap().unwrap();
}
